// SPDX-License-Identifier: Apache-2.0
// A .stair file: as it comes, or, after an odd first byte, the payload of one tile behind a right header.
#include "fuzz.hpp"

namespace {

void varint(fuzz::Data& data, std::size_t value) {
  for (; value > 127; value >>= 7) data.push_back(static_cast<std::uint8_t>(value | 128));
  data.push_back(static_cast<std::uint8_t>(value));
}

// Width, height, mode and rate position from the first bytes, the rest the payload; its checksum is right.
fuzz::Data with_header(const stair_bundle* bundle, const std::uint8_t* data, std::size_t size) {
  fuzz::Data stream = {0xa5, 'S', 'T', 'R', 2, 0};
  const std::uint8_t* fingerprint = stair_bundle_fingerprint(bundle);
  stream.insert(stream.end(), fingerprint, fingerprint + 8);
  varint(stream, 1 + data[0] % 128);
  varint(stream, 1 + data[1] % 128);
  stream.insert(stream.end(), {static_cast<std::uint8_t>(data[2] & 1), static_cast<std::uint8_t>(data[2] >> 1 & 7),
                               data[3], 0});
  varint(stream, size - 4);
  stream.insert(stream.end(), data + 4, data + size);
  const std::uint32_t sum = softstair::crc32({stream.data(), stream.size()});
  for (int shift = 0; shift < 32; shift += 8) stream.push_back(static_cast<std::uint8_t>(sum >> shift));
  return stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const stair_bundle* const bundle = fuzz::open_bundle();
  if (size > 0 && (data[0] & 1) == 0) fuzz::decode(bundle, {data + 1, data + size});
  if (size > 5 && (data[0] & 1) == 1) fuzz::decode(bundle, with_header(bundle, data + 1, size - 1));
  return 0;
}
