// SPDX-License-Identifier: Apache-2.0
#include "onnx.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "refuse.hpp"

namespace softstair {
namespace {

constexpr int kFloat = 1, kInt64 = 7, kHalf = 10;  // element types
constexpr std::size_t kMostNodes = 4096;

float from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

class Reader {
 public:
  Reader(Bytes bytes, const std::string& name) : name_(name) {
    fields(bytes, [&](int field, std::uint64_t, Bytes part) {
      if (field == 7) graph(part);
    });
  }
  Graph take() { return std::move(graph_); }

 private:
  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... why) const {
    fail_bundle("The graph ", name_, " of the bundle ", why..., ".");
  }

  // handle(field, number, bytes): `bytes` of a length-delimited field or of a fixed number.
  template <typename Handle>
  void fields(Bytes bytes, Handle handle) const {
    std::size_t at = 0;
    const auto varint = [&] {
      std::uint64_t value = 0;
      for (int shift = 0; shift < 64; shift += 7) {
        if (at == bytes.size()) fail("is damaged");
        const std::uint8_t byte = bytes[at++];
        value |= static_cast<std::uint64_t>(byte & 127) << shift;
        if (byte < 128) return value;
      }
      fail("is damaged");
    };
    while (at < bytes.size()) {
      const std::uint64_t key = varint();
      const auto field = static_cast<int>(key >> 3 & 0x1fffffff);
      std::uint64_t number = 0, length = 0;
      switch (key & 7) {
        case 0: number = varint(); break;
        case 1: length = 8; break;
        case 2: length = varint(); break;
        case 5: length = 4; break;
        default: fail("is damaged");
      }
      if (length > bytes.size() - at) fail("is damaged");
      const Bytes part = bytes.subspan(at, static_cast<std::size_t>(length));
      at += part.size();
      handle(field, number, part);
    }
  }

  static int clipped(std::uint64_t number) {
    constexpr std::int64_t kLimit = std::numeric_limits<int>::max();
    return static_cast<int>(std::clamp(static_cast<std::int64_t>(number), -kLimit, kLimit));
  }

  // A repeated number, packed or not.
  void append(std::vector<int>& to, std::uint64_t number, Bytes packed) const {
    if (packed.empty()) return to.push_back(clipped(number));
    std::uint64_t value = 0;
    int shift = 0;
    for (const std::uint8_t byte : packed) {
      if (shift > 63) fail("is damaged");
      value |= static_cast<std::uint64_t>(byte & 127) << shift;
      shift += 7;
      if (byte < 128) to.push_back(clipped(value)), value = 0, shift = 0;
    }
  }

  void graph(Bytes bytes) {
    const auto name_of = [&](Bytes value) {
      std::string name;
      fields(value, [&](int field, std::uint64_t, Bytes part) {
        if (field == 1) name = text_of(part);
      });
      return name;
    };
    fields(bytes, [&](int field, std::uint64_t, Bytes part) {
      if (field == 1) node(part);
      if (field == 5) {
        auto [name, constant] = tensor(part);
        graph_.constants[name] = std::move(constant);
      }
      if (field == 11) graph_.inputs.push_back(name_of(part));
      if (field == 12) graph_.outputs.push_back(name_of(part));
      if (graph_.nodes.size() > kMostNodes) fail("has too many nodes");
    });
  }

  void node(Bytes bytes) {
    Node node;
    Constant value;
    fields(bytes, [&](int field, std::uint64_t, Bytes part) {
      if (field == 1) node.inputs.emplace_back(text_of(part));
      if (field == 2) node.outputs.emplace_back(text_of(part));
      if (field == 4) node.operation = text_of(part);
      if (field == 5) attribute(part, node, value);
      if (field == 7 && !part.empty()) fail("has operators of a foreign domain");
    });
    if (node.outputs.empty()) fail("has an operator without a result");
    if (node.operation == "Constant")
      graph_.constants[node.outputs[0]] = std::move(value);
    else
      graph_.nodes.push_back(std::move(node));
  }

  void attribute(Bytes bytes, Node& node, Constant& value) const {
    std::string name;
    fields(bytes, [&](int field, std::uint64_t, Bytes part) {
      if (field == 1) name = text_of(part);
    });
    fields(bytes, [&](int field, std::uint64_t number, Bytes part) {
      Attribute& attribute = node.attributes[name];
      if (field == 2 && part.size() == 4) attribute.real = std::bit_cast<float>(load_little<std::uint32_t>(part.data()));
      if (field == 3) attribute.number = static_cast<std::int64_t>(number);
      if (field == 4) attribute.text = text_of(part);
      if (field == 5) value = tensor(part).second;
      if (field == 6 || field == 11) fail("has sub-graphs");
      if (field == 8) append(attribute.numbers, number, part);
    });
  }

  std::pair<std::string, Constant> tensor(Bytes bytes) const {
    std::string name;
    Constant result;
    std::int64_t type = 0;
    Bytes raw;
    fields(bytes, [&](int field, std::uint64_t number, Bytes part) {
      if (field == 1) append(result.sizes, number, part);
      if (field == 2) type = static_cast<std::int64_t>(number);
      if (field == 4)
        for (std::size_t i = 0; i + 4 <= part.size(); i += 4)
          result.floats.push_back(std::bit_cast<float>(load_little<std::uint32_t>(part.data() + i)));
      if (field == 7) append(result.integers, number, part);
      if (field == 8) name = text_of(part);
      if (field == 9) raw = part;
      if (field == 13 || (field == 14 && number != 0)) fail("has external data");
    });
    std::uint64_t count = 1;
    for (const int size : result.sizes) {
      if (size < 1 || size > 1 << 24 || (count *= static_cast<std::uint64_t>(size)) > 1 << 26) fail("has an impossible constant");
    }
    const std::size_t width = type == kFloat ? 4 : type == kHalf ? 2 : type == kInt64 ? 8 : 0;
    if (width == 0) fail("has constants of another type than float, half and int64");
    if (!raw.empty()) {
      if (raw.size() != count * width) fail("has a constant of the wrong size");
      if (type != kInt64) result.floats.reserve(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < raw.size(); i += width) {
        if (type == kFloat) result.floats.push_back(std::bit_cast<float>(load_little<std::uint32_t>(raw.data() + i)));
        if (type == kHalf) result.floats.push_back(from_half(load_little<std::uint16_t>(raw.data() + i)));
        if (type == kInt64) result.integers.push_back(clipped(load_little<std::uint64_t>(raw.data() + i)));
      }
    }
    if (result.count() != count) fail("has a constant of the wrong size");
    return {name, std::move(result)};
  }

  std::string name_;
  Graph graph_;
};

}  // namespace

Graph read_graph(Bytes bytes, const std::string& name) { return Reader(bytes, name).take(); }

}  // namespace softstair
