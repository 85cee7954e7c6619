// SPDX-License-Identifier: Apache-2.0
// A float network of a bundle: its graph as a list of steps, and running it.
//
// What graphs may hold is a closed list, in docs/format/bundle.md. Layers that follow a convolution
// become part of it; tensors are given back as soon as no later step needs them.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "onnx.hpp"
#include "tensor.hpp"

namespace softstair {

class Network {
 public:
  using Channels = std::initializer_list<std::pair<const char*, int>>;
  struct Planes {
    const char* input;
    const Tensor& planes;
  };
  struct Numbers {
    const char* input;
    const std::vector<float>& numbers;
  };

  // channels: of the inputs that are planes; the others are vectors.
  // Throws Error (STAIR_INVALID_BUNDLE) if the graph holds anything that is not on the list.
  Network(Graph graph, Channels channels, const std::string& name);

  // An input of the right shape, to be filled.
  Tensor input(const std::string& name, int height, int width) const;
  // All planes of one size, each input given.
  Tensor run(std::initializer_list<Planes> planes, std::initializer_list<Numbers> vectors) const;

  int outputs() const { return values_[output_].channels; }
  // How much higher the resolution of the output is.
  int factor() const { return values_[output_].factor; }
  // Positions of the input on every side that a position's outputs depend on.
  int reach() const;
  // What tensors take at most while it runs, inputs included.
  std::size_t peak_bytes(int height, int width) const;

 private:
  struct Value {
    int channels = 0, factor = 1, border = 0;
    int of = -1, first = 0;  // of a slice: the tensor that it is part of
    int gathered = -1;       // and the one that was made of it
    int last_use = -1;
  };
  struct Vector {
    std::string input;
    std::vector<float> table;  // (inputs, outputs)
    int inputs, outputs;
  };
  struct Part {
    int value, first, count;
  };
  struct Step {
    enum class Kind { convolution, depthwise, add, multiply, scale, leaky, depth_to_space, gather };
    Kind kind;
    int input = -1;   // value
    int other = -1;   // value: the residual, the factor, the second operand
    int vector = -1;  // vector that is added to the bias
    int output = -1;
    int inputs = 0, side = 1;
    float before = 1, after = 1;       // slopes of LeakyReLU
    int block = 1;                     // of depth to space, or of a convolution that ends in one
    bool by_place = false;             // channels of depth to space are in the order row, column, channel
    bool winograd = false;             // its weights are transformed
    bool in_place = false;             // the output takes the place of the value that `replaced` names
    std::vector<float> weights, bias;  // of a scale: factors and what is added
    std::vector<Part> parts;
  };

  friend class Planner;
  static int replaced(const Step& step);
  // Values that a step takes while it runs, beside its tensors.
  static std::size_t scratch_of(const Step& step);
  std::size_t count_of(int value, int height, int width) const;
  void find_borders();
  void pack();
  void apply(const Step& step, const std::vector<const Tensor*>& in, const std::vector<float>& bias, Tensor& out) const;

  std::vector<Value> values_;
  std::vector<Vector> vectors_;
  std::vector<Step> steps_;
  std::map<std::string, int> inputs_;
  int output_ = -1;
};

}  // namespace softstair
