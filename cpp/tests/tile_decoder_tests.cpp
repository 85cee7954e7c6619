// SPDX-License-Identifier: Apache-2.0
// Streams that are damaged, or never were any.
#include "testing.hpp"

namespace {

// Whatever is read without a fault is what an encoder would have written.
bool survives(const std::shared_ptr<const Model>& model, Size size,
              std::span<const std::uint8_t> bytes) {
  const Decoded decoded = decode_symbols(*model, size, bytes);
  if (decoded.fault != Fault::none) return true;
  const auto again = encode_tile(model, size, decoded.symbols);
  return std::equal(bytes.begin(), bytes.end(), again.begin(), again.end());
}

// A tile whose latents are far from what its tables expect, so that escapes are among its symbols.
std::vector<std::uint8_t> random_tile(const Setting& setting, const std::shared_ptr<const Model>& model,
                                      Size size, Random& random) {
  const auto z = setting.random_z(random, size);
  const auto symbols = setting.random_y(random, size);
  const std::vector<float> y(symbols.begin(), symbols.end()), mean(y.size());
  const std::vector<float> gain(setting.widths.latents, 1.0f);
  std::vector<float> decoded(y.size());
  TileEncoder encoder(model, size, z);
  for (int phase = 0; phase < kPhases; ++phase) {
    encoder.begin_phase();
    encoder.quantize(y.data(), mean.data(), gain.data(), {}, decoded.data());
  }
  return encoder.finish();
}

void check_hostile(const Setting& setting, Size size, int states, unsigned seed, int stride) {
  Random random(seed);
  const auto model = setting.model(true, states);
  const auto bytes = random_tile(setting, model, size, random);
  CHECK(decode_symbols(*model, size, bytes).fault == Fault::none);
  bool all_fail = true, all_survive = true;
  for (std::size_t length = 0; length < bytes.size(); length += stride)
    all_fail &= decode_symbols(*model, size, std::span(bytes).first(length)).fault != Fault::none;
  for (std::size_t at = 0; at < bytes.size(); at += stride) {
    auto changed = bytes;
    changed[at] ^= static_cast<std::uint8_t>(random.between(1, 255));
    all_survive &= survives(model, size, changed);
  }
  CHECK(all_fail);
  CHECK(all_survive);
  auto longer = bytes;
  longer.push_back(0);
  CHECK(decode_symbols(*model, size, longer).fault == Fault::corrupt);
}

void test_hostile_streams() {
  const Setting setting(11, kSmall);
  for (const int states : {1, 8}) {
    check_hostile(setting, {1, 1}, states, 12, 1);
    check_hostile(setting, {3, 4}, states, 13, 1);
    check_hostile(setting, {16, 17}, states, 14, 19);
  }

  Random random(15);
  bool all_survive = true;
  for (int trial = 0; trial < 6000; ++trial) {
    const auto model = setting.model(true, trial % 2 == 0 ? 1 : 4 << trial % 4);
    const bool large = trial % 50 == 0;  // four lanes
    const Size size = large ? Size{16, 18} : Size{random.between(1, 4), random.between(1, 5)};
    const int length = random.between(0, large ? 20000 : 400);
    all_survive &= survives(model, size, random.values<std::uint8_t>(length, 0, 255));
  }
  CHECK(all_survive);
}

// A claimed size alone must not make the decoder allocate.
void test_claimed_sizes() {
  const Setting setting(16, kSmall);
  const auto model = setting.model();
  Random random(17);
  auto bytes = random.values<std::uint8_t>(1000, 1, 255);
  for (const Size size : {Size{65536, 65536}, Size{1, 65536}, Size{65536, 1}, Size{4000, 6000}}) {
    largest_allocation = 0;
    CHECK(decode_symbols(*model, size, bytes).fault == Fault::truncated);
    CHECK(largest_allocation < 4096);
  }
}

// What was read of a prefix is what the whole says there, and nothing else is said.
bool begins_like(const TileDecoder& decoder, const Symbols& whole, Size size, int group) {
  const auto& [z, y] = decoder.symbols();
  if (!std::equal(z.begin(), z.end(), whole.z.begin())) return false;
  if (y.empty()) return decoder.z_lines() < size.z_height() && decoder.y_lines() == 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const int place = static_cast<int>(i / (kPhases * group)), row = place / size.width;
    for (int phase = 0; phase < kPhases; ++phase) {
      const int of_phase = channel_group(row, place % size.width, phase);
      if (of_phase != static_cast<int>(i % (kPhases * group)) / group) continue;
      const bool known = phase * size.height + row < decoder.y_lines();
      if (y[i] != (known ? whole.y[i] : 0)) return false;
    }
  }
  return true;
}

void test_bytes_that_end_early() {
  const Setting setting(18, kSmall);
  Random random(19);
  for (const int states : {1, 8})
    for (const Size size : {Size{1, 1}, Size{5, 4}, Size{16, 17}}) {
      const auto model = setting.model(true, states);
      const auto bytes = random_tile(setting, model, size, random);
      const Symbols whole = decode_symbols(*model, size, bytes).symbols;
      const int group = setting.widths.latents / kPhases, stride = size.height < 16 ? 1 : 23;
      bool all_alike = true;
      TileDecoder growing(*model, size);
      for (std::size_t length = 0; length < bytes.size(); length += stride) {
        TileDecoder decoder(*model, size);
        decoder.append(std::span(bytes).first(length));
        all_alike &= decoder.fault() == Fault::none && begins_like(decoder, whole, size, group);
        all_alike &= growing.z_lines() == decoder.z_lines() && growing.y_lines() == decoder.y_lines();
        all_alike &= begins_like(growing, whole, size, group);
        growing.append(std::span(bytes).subspan(length).first(std::min<std::size_t>(stride, bytes.size() - length)));
      }
      CHECK(all_alike);
      CHECK(growing.fault() == Fault::none && growing.y_lines() == kPhases * size.height);
      CHECK(growing.symbols().y == whole.y);
      growing.append(std::span(bytes).first(1));
      CHECK(growing.fault() == Fault::corrupt);
    }
  for (int trial = 0; trial < 3000; ++trial) {  // nothing is read beyond the end, whatever the bytes say
    const auto model = setting.model(true, trial % 2 == 0 ? 1 : 4 << trial % 4);
    const Size size = trial % 50 == 0 ? Size{16, 18} : Size{random.between(1, 4), random.between(1, 5)};
    TileDecoder decoder(*model, size);
    for (int piece = 0; piece < 4; ++piece) decoder.append(random.values<std::uint8_t>(random.between(0, 300), 0, 255));
    CHECK(decoder.fault() != Fault::truncated);
  }
  const auto model = setting.model();
  const auto noise = random.values<std::uint8_t>(1000, 1, 255);
  for (const Size size : {Size{65536, 65536}, Size{65536, 1}, Size{4000, 6000}}) {
    TileDecoder decoder(*model, size);
    largest_allocation = 0;
    decoder.append(noise);
    CHECK(largest_allocation < (1 << 20));
  }
}

}  // namespace

void test_tile_decoder() {
  test_bytes_that_end_early();
  test_hostile_streams();
  test_claimed_sizes();
}
