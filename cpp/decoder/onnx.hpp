// SPDX-License-Identifier: Apache-2.0
// ONNX's protobuf, as far as a bundle's graphs use it: nodes and constants by name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cursor.hpp"

namespace softstair {

// A constant. floats: of float32 and half precision; integers: of int64. What int does not hold is as good as
// its limits: here as below.
struct Constant {
  std::vector<int> sizes;
  std::vector<float> floats;
  std::vector<int> integers;

  std::size_t count() const { return floats.size() + integers.size(); }
};

// One of these is set.
struct Attribute {
  std::int64_t number = 0;
  std::vector<int> numbers;
  float real = 0;
  std::string text;
};

struct Node {
  std::string operation;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, Attribute> attributes;
};

struct Graph {
  std::vector<Node> nodes;
  std::map<std::string, Constant> constants;  // initializers and what Constant nodes give
  std::vector<std::string> inputs, outputs;
};

// Throws Error (STAIR_INVALID_BUNDLE) on anything that is not one, or that has external data,
// sub-graphs, foreign domains or other element types.
Graph read_graph(Bytes bytes, const std::string& name);

}  // namespace softstair
