// SPDX-License-Identifier: Apache-2.0
// A .stairs file. Checksums of its entries are put right.
#include "fuzz.hpp"

namespace {

std::size_t whole(const fuzz::Data& data, std::size_t at) {
  std::size_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | data[at + i];
  return value;
}

void put_right(fuzz::Data& data) {
  for (std::size_t head = 0; head + 46 <= data.size(); ++head) {
    if (std::memcmp(data.data() + head, "PK\1\2", 4) != 0) continue;
    const std::size_t local = whole(data, head + 42), size = whole(data, head + 20);
    if (local > data.size() || data.size() - local < 30) continue;
    const std::size_t names = whole(data, local + 26), first = local + 30 + (names & 0xffff) + (names >> 16);
    if (first > data.size() || data.size() - first < size) continue;
    const std::uint32_t sum = softstair::crc32({data.data() + first, size});
    for (int i = 0; i < 4; ++i)
      data[head + 16 + i] = data[local + 14 + i] = static_cast<std::uint8_t>(sum >> 8 * i);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Data changed(data, data + size);
  put_right(changed);
  stair_bundle* bundle = nullptr;
  fuzz::expect_sentence(stair_bundle_open(changed.data(), changed.size(), &bundle));
  stair_bundle_free(bundle);
  return 0;
}
