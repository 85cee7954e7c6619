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

}  // namespace

void test_tile_decoder() {
  test_hostile_streams();
  test_claimed_sizes();
}
