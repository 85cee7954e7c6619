// SPDX-License-Identifier: Apache-2.0
// Damaged streams and bundles through the C face, made to be run under sanitizers:
// face_fuzz FOLDER ROUNDS [FOLDER...], with golden streams in all folders and tiny.stairs in the first.
//
// Half of what is damaged gets its checksums put right, or nothing behind them would be reached.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "checksums.hpp"
#include "softstair.h"

namespace {

using Data = std::vector<std::uint8_t>;

Data read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Fuzzer {
 public:
  explicit Fuzzer(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void damage(Data& data, std::size_t first, std::size_t last) {
    for (std::size_t times = 1 + below(4); times > 0 && first < last; --times) {
      const std::size_t at = first + below(last - first);
      switch (below(4)) {
        case 0: data[at] ^= static_cast<std::uint8_t>(1u << below(8)); break;
        case 1: data[at] = static_cast<std::uint8_t>(random_()); break;
        case 2: data[at] = below(2) ? 255 : 0; break;
        default: data[at] = data[first + below(last - first)];
      }
    }
  }

  // A stream of one tile: its header and payload, then alpha, or parts of the payload, with checksums put right.
  void damage_inside(Data& stream) {
    std::size_t at = 14;
    const auto varint = [&] {
      std::size_t value = 0;
      for (int shift = 0; at < stream.size(); shift += 7) {
        const std::uint8_t byte = stream[at++];
        value |= static_cast<std::size_t>(byte & 127) << shift;
        if (byte < 128) break;
      }
      return value;
    };
    varint(), varint();
    const std::size_t layers = at + 3 < stream.size() && stream[at + 1] == 6 ? stream[at + 3] : 1;
    at += layers > 1 ? 4 : 3;
    if (varint() != 0) return damage(stream, 0, stream.size());
    const std::size_t length = varint();
    std::vector<std::size_t> others;
    for (std::size_t layer = 1; layer < std::min<std::size_t>(layers, 4); ++layer) others.push_back(varint());
    const std::size_t head = at + (stream[4] == 2 && (stream[5] & 4) != 0 ? 1 : 0);  // a bitmap of one tile
    if (head + length + 4 > stream.size()) return;
    if (below(3) == 0)
      damage(stream, 14, head);
    else
      damage(stream, head, head + length);
    put(stream, head + length, softstair::crc32({stream.data() + head, length}, softstair::crc32({stream.data(), head})));
    at = head + length + 4;
    for (const std::size_t other : others) {  // of a stream without alpha and metadata
      if (at + other + 4 > stream.size()) return;
      damage(stream, at, at + other);
      put(stream, at + other, softstair::crc32({stream.data() + at, other}, softstair::crc32({stream.data(), head})));
      at += other + 4;
    }
    if (at >= stream.size() || below(2)) return;
    const std::size_t block = varint();
    if (at + block + 4 > stream.size()) return;
    damage(stream, at, at + block);
    put(stream, at + block, softstair::crc32({stream.data() + at, block}));
  }

  // An entry of a bundle, with its checksum in the directory put right.
  void damage_entry(Data& bundle) {
    std::vector<std::size_t> heads;
    for (std::size_t i = 0; i + 46 < bundle.size(); ++i)
      if (std::memcmp(bundle.data() + i, "PK\1\2", 4) == 0) heads.push_back(i);
    const std::size_t head = heads[below(heads.size())];
    const auto whole = [&](std::size_t from) { return softstair::load_little<std::uint32_t>(bundle.data() + from); };
    const std::size_t local = whole(head + 42), size = whole(head + 20);
    const std::size_t first = local + 30 + (whole(local + 26) & 0xffff) + (whole(local + 26) >> 16);
    // Weights are most of an entry; what says how to read them is at its ends.
    const std::size_t near = std::min<std::size_t>(size, 1500);
    if (below(2))
      damage(bundle, first, first + near);
    else
      damage(bundle, first + size - near, first + size);
    put(bundle, head + 16, softstair::crc32({bundle.data() + first, size}));
  }

 private:
  static void put(Data& data, std::size_t at, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) data[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  }

  std::mt19937 random_;
};

// A failure has a text that is a sentence.
void expect_sentence(stair_result result) {
  const std::string text = stair_error_text();
  if (result != STAIR_OK && (text.size() < 10 || (text.back() != '.' && text.size() < 390))) {
    std::printf("result %d has no sentence: %s\n", result, text.c_str());
    std::exit(1);
  }
  if (result == STAIR_INTERNAL) {
    std::printf("internal error: %s\n", text.c_str());
    std::exit(1);
  }
}

void decode(const stair_bundle* bundle, const Data& stream, std::size_t divisor) {
  stair_file_info info;
  expect_sentence(stair_info(stream.data(), stream.size(), &info));
  std::uint8_t* block;
  std::size_t size;
  expect_sentence(stair_metadata(stream.data(), stream.size(), STAIR_EXIF, &block, &size));
  stair_block_free(block);
  stair_options options = stair_default_options();
  options.divisor = static_cast<std::uint32_t>(1u << divisor);
  options.max_pixels = 1 << 20;
  options.max_memory = 400'000'000;
  for (options.allow_partial = 0; options.allow_partial < 2; ++options.allow_partial) {
    stair_picture picture;
    expect_sentence(stair_decode(bundle, stream.data(), stream.size(), &options, &picture));
    stair_free(&picture);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  const std::filesystem::path folder = arguments[1];
  const int rounds = std::atoi(arguments[2]);
  const Data bundle_bytes = read(folder / "tiny.stairs");
  stair_bundle* bundle = nullptr;
  if (stair_bundle_open(bundle_bytes.data(), bundle_bytes.size(), &bundle) != STAIR_OK) return 1;
  std::vector<Data> streams;
  for (int at = 1; at < count; at += at == 1 ? 2 : 1)
    for (const auto& entry : std::filesystem::directory_iterator(arguments[at]))
      if (entry.path().extension() == ".stair") streams.push_back(read(entry.path()));
  Fuzzer fuzzer(1);
  for (int round = 0; round < rounds; ++round) {
    Data stream = streams[fuzzer.below(streams.size())];
    if (round % 8 == 7) {
      Data changed = bundle_bytes;
      fuzzer.below(4) == 0 ? fuzzer.damage(changed, 0, changed.size()) : fuzzer.damage_entry(changed);
      stair_bundle* other = nullptr;
      const stair_result result = stair_bundle_open(changed.data(), changed.size(), &other);
      expect_sentence(result);
      if (result == STAIR_OK) {  // its fingerprint differs; the stream is made to name it
        std::copy_n(stair_bundle_fingerprint(other), 8, stream.begin() + 6);
        fuzzer.damage_inside(stream);
        decode(other, stream, 0);
      }
      stair_bundle_free(other);
      continue;
    }
    if (fuzzer.below(2)) {
      fuzzer.damage_inside(stream);
    } else {
      fuzzer.damage(stream, 0, stream.size());
      if (fuzzer.below(3) == 0) stream.resize(fuzzer.below(stream.size()));
    }
    decode(bundle, stream, fuzzer.below(5));
  }
  stair_bundle_free(bundle);
  std::printf("%d rounds\n", rounds);
  return 0;
}
