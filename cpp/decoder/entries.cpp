// SPDX-License-Identifier: Apache-2.0
#include "entries.hpp"

#include <stdexcept>

#include "checksums.hpp"
#include "json.hpp"
#include "refuse.hpp"

namespace softstair {
namespace {

constexpr std::size_t kEndSize = 22, kLargestComment = 65535, kLocalSize = 30;
constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;
constexpr int kMostEntries = 64;

template <typename... Parts>
[[noreturn]] void fail(const Parts&... why) {
  fail_bundle("The bundle ", why..., ".");
}

std::size_t find_end(Bytes bytes) {
  if (bytes.size() >= kEndSize)
    for (std::size_t back = 0; back <= kLargestComment && back + kEndSize <= bytes.size(); ++back) {
      const std::size_t at = bytes.size() - kEndSize - back;
      if (load_little<std::uint32_t>(bytes.data() + at) == 0x06054b50) return at;
    }
  fail("is not a ZIP file, or not a whole one");
}

}  // namespace

Bytes Entries::at(std::string_view name) const {
  const auto found = bytes.find(name);
  if (found == bytes.end()) fail("has no entry ", std::string(name));
  return found->second;
}

Entries read_zip(Bytes bytes) {
  if (bytes.size() > kMostBytes) fail("is larger than a bundle may be");
  const std::size_t end = find_end(bytes);
  const int count = load_little<std::uint16_t>(bytes.data() + end + 10);
  const auto directory = load_little<std::uint32_t>(bytes.data() + end + 16);
  if (count > kMostEntries || directory > end) fail("is not a ZIP file that bundles are");
  Cursor cursor(bytes.first(end), STAIR_INVALID_BUNDLE, "the bundle");
  cursor.take(directory, "directory");
  Entries entries;
  for (int i = 0; i < count; ++i) {
    const Bytes head = cursor.take(46, "directory");
    const auto half = [&](int at) { return load_little<std::uint16_t>(head.data() + at); };
    const auto whole = [&](int at) { return load_little<std::uint32_t>(head.data() + at); };
    if (whole(0) != 0x02014b50 || (half(8) & 1) != 0) fail("is not a ZIP file that bundles are");
    const std::string name(text_of(cursor.take(half(28), "directory")));
    cursor.take(half(30), "directory");
    cursor.take(half(32), "directory");
    const std::uint32_t size = whole(20), local = whole(42);
    if (half(10) != 0 || size != whole(24)) fail("has compressed entries");
    if (local > end || end - local < kLocalSize || load_little<std::uint32_t>(bytes.data() + local) != 0x04034b50)
      fail("has no entry ", name, " where it should");
    const std::size_t first = local + kLocalSize + load_little<std::uint16_t>(bytes.data() + local + 26) + load_little<std::uint16_t>(bytes.data() + local + 28);
    if (first > end || end - first < size) fail("ends inside the entry ", name);
    const Bytes content = bytes.subspan(first, size);
    if (crc32(content) != whole(16)) fail("has a damaged entry ", name);
    if (!entries.bytes.emplace(name, content).second) fail("has the entry ", name, " twice");
  }
  return entries;
}

template <typename T>
std::vector<T> Array::values(const char* of, std::size_t dimensions) const {
  if (type != of || sizes.size() != dimensions) refuse("it does not hold what it should");
  std::vector<T> result(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = static_cast<T>(load_little<std::make_unsigned_t<T>>(bytes.data() + i * sizeof(T)));
  return result;
}
template std::vector<std::int16_t> Array::values(const char*, std::size_t) const;
template std::vector<std::uint16_t> Array::values(const char*, std::size_t) const;
template std::vector<std::int32_t> Array::values(const char*, std::size_t) const;

std::map<std::string, Array> read_safetensors(Bytes bytes) {
  const auto need = [](bool holds) {
    if (!holds) refuse("it is not a safetensors file");
  };
  need(bytes.size() >= 8);
  const auto length = load_little<std::uint64_t>(bytes.data());
  need(length <= bytes.size() - 8);
  const Bytes body = bytes.subspan(8 + static_cast<std::size_t>(length));
  std::map<std::string, Array> arrays;
  const Json head = Json::parse(text_of(bytes.subspan(8, static_cast<std::size_t>(length))));
  for (const auto& [name, entry] : head.object()) {
    if (name == "__metadata__") continue;
    Array array;
    array.type = entry.at("dtype").string();
    std::uint64_t size = array.type == "I32" ? 4 : 2;
    need(array.type == "I32" || array.type == "I16" || array.type == "U16");
    for (const std::int32_t side : entry.at("shape").numbers()) {
      need(side >= 1 && side <= 1 << 24 && (size *= static_cast<std::uint64_t>(side)) <= bytes.size());
      array.sizes.push_back(side);
    }
    const std::vector<std::int32_t> place = entry.at("data_offsets").numbers();
    need(place.size() == 2 && place[0] >= 0 && place[1] >= place[0] && static_cast<std::size_t>(place[1]) <= body.size());
    need(static_cast<std::uint64_t>(place[1] - place[0]) == size);
    array.bytes = body.subspan(place[0], place[1] - place[0]);
    arrays.emplace(name, std::move(array));
  }
  return arrays;
}

}  // namespace softstair
