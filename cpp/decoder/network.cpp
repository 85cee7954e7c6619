// SPDX-License-Identifier: Apache-2.0
#include "network.hpp"

#include <algorithm>
#include <cmath>

#include "kernels.hpp"
#include "refuse.hpp"

namespace softstair {

// From a graph to steps: first one a node, then layers that follow a convolution join it.
class Planner {
 public:
  using Step = Network::Step;
  using Kind = Step::Kind;

  Planner(Network& network, Graph graph, Network::Channels channels, const std::string& name)
      : network_(network), graph_(std::move(graph)), name_(name) {
    for (const auto& [input, count] : channels) {
      need(std::find(graph_.inputs.begin(), graph_.inputs.end(), input) != graph_.inputs.end(), "lacks an input");
      network_.inputs_[input] = planes_[input] = add_value(count, 1);
    }
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) i = translate(i);
    if (graph_.outputs.size() != 1) fail("has not one output");
    network_.output_ = tensor(plane(graph_.outputs[0]));
    join();
  }

 private:
  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... why) const {
    fail_bundle("The graph ", name_, " of the bundle ", why..., ".");
  }
  void need(bool condition, const char* why) const {
    if (!condition) fail(why);
  }

  int add_value(int channels, int factor) {
    need(channels >= 1 && channels <= 4096 && factor <= 64, "has an impossible size");
    need(network_.values_.size() < 4096, "has too many operators");
    Network::Value value;
    value.channels = channels;
    value.factor = factor;
    network_.values_.push_back(value);
    return static_cast<int>(network_.values_.size()) - 1;
  }
  Network::Value& value(int id) { return network_.values_[id]; }

  bool is_plane(const std::string& name) const { return planes_.count(name) != 0; }
  int plane(const std::string& name) const {
    const auto found = planes_.find(name);
    if (found == planes_.end()) fail("has an operator whose input ", name, " is no plane");
    return found->second;
  }
  const Constant* constant(const std::string& name) const {
    const auto found = graph_.constants.find(name);
    return found == graph_.constants.end() ? nullptr : &found->second;
  }
  const Constant& needed_constant(const Node& node, std::size_t input) const {
    if (input >= node.inputs.size() || constant(node.inputs[input]) == nullptr)
      fail("has an operator ", node.operation, " without a constant that it needs");
    return *constant(node.inputs[input]);
  }

  static const Attribute* attribute(const Node& node, const char* name) {
    const auto found = node.attributes.find(name);
    return found == node.attributes.end() ? nullptr : &found->second;
  }
  static std::int64_t number(const Node& node, const char* name, std::int64_t otherwise) {
    const Attribute* found = attribute(node, name);
    return found == nullptr ? otherwise : found->number;
  }

  // A slice becomes a tensor of its own where it is more than a part of a concatenation.
  int tensor(int id) {
    if (value(id).of < 0) return id;
    if (value(id).gathered >= 0) return value(id).gathered;
    const int made = gather({{value(id).of, value(id).first, value(id).channels}}, value(id).factor);
    return network_.values_[id].gathered = made;
  }
  int gather(std::vector<Network::Part> parts, int factor) {
    int channels = 0;
    for (const Network::Part& part : parts) channels += part.count;
    Step step{.kind = Kind::gather, .output = add_value(channels, factor), .parts = std::move(parts)};
    return push(std::move(step));
  }
  int push(Step step) {
    network_.steps_.push_back(std::move(step));
    return network_.steps_.back().output;
  }

  std::size_t translate(std::size_t index) {
    const Node& node = graph_.nodes[index];
    need(!node.inputs.empty(), "has an operator without inputs");
    const std::string& in = node.inputs[0];
    const std::string& out = node.outputs[0];
    const std::string& operation = node.operation;
    if (operation == "Cast") {
      need(number(node, "to", 0) == 1, "casts to something else than float");
      alias(in, out);
    } else if (operation == "Unsqueeze") {
      need(vectors_.count(in) != 0, "adds a dimension to planes");
      alias(in, out);
    } else if (operation == "MatMul") {
      matrix(node);
    } else if (operation == "Conv") {
      planes_[out] = convolution(node);
    } else if (operation == "LeakyRelu") {
      const int from = tensor(plane(in));
      const Attribute* alpha = attribute(node, "alpha");
      Step step{.kind = Kind::leaky, .input = from, .output = add_value(value(from).channels, value(from).factor)};
      step.before = alpha == nullptr ? 0.01f : alpha->real;
      planes_[out] = push(std::move(step));
    } else if (operation == "Add" || operation == "Mul" || operation == "Div") {
      planes_[out] = combine(node);
    } else if (operation == "DepthToSpace") {
      const Attribute* mode = attribute(node, "mode");
      planes_[out] = depth_to_space(tensor(plane(in)), number(node, "blocksize", 0), mode == nullptr || mode->text == "DCR");
    } else if (operation == "Transpose") {
      return blocks(index);
    } else if (operation == "Split") {
      split(node);
    } else if (operation == "Concat") {
      planes_[out] = concatenate(node);
    } else {
      fail("holds the operator ", operation, ", which is none that bundles may use");
    }
    return index;
  }

  void alias(const std::string& in, const std::string& out) {
    if (const Constant* known = constant(in)) {
      graph_.constants[out] = Constant(*known);
    } else if (vectors_.count(in) != 0) {
      vectors_[out] = vectors_[in];
    } else if (is_plane(in)) {
      planes_[out] = planes_[in];
    } else {
      bare_[out] = vector_input(in);
    }
  }

  // The number of an input that is a vector, by its name or that of a cast of it.
  int vector_input(const std::string& name) {
    if (const auto known = bare_.find(name); known != bare_.end()) return known->second;
    const auto found = std::find(graph_.inputs.begin(), graph_.inputs.end(), name);
    need(found != graph_.inputs.end(), "has an operator without its input");
    return static_cast<int>(found - graph_.inputs.begin());
  }

  void matrix(const Node& node) {
    const Constant& table = needed_constant(node, 1);
    need(table.sizes.size() == 2 && !table.floats.empty(), "has a matrix of an impossible shape");
    const std::string& in = node.inputs[0];
    need(!is_plane(in) && constant(in) == nullptr, "multiplies planes with a matrix");
    Network::Vector vector{graph_.inputs[vector_input(in)], table.floats, static_cast<int>(table.sizes[0]), static_cast<int>(table.sizes[1])};
    network_.vectors_.push_back(std::move(vector));
    vectors_[node.outputs[0]] = static_cast<int>(network_.vectors_.size()) - 1;
  }

  int convolution(const Node& node) {
    const int from = tensor(plane(node.inputs[0]));
    const Constant& weights = needed_constant(node, 1);
    need(weights.sizes.size() == 4 && !weights.floats.empty(), "has a convolution of an impossible shape");
    const auto outputs = static_cast<int>(weights.sizes[0]);
    const auto side = static_cast<int>(weights.sizes[2]);
    const std::int64_t group = number(node, "group", 1);
    const bool depthwise = group > 1;
    need(weights.sizes[3] == side && (side == 1 || side == 3 || side == 5) && !(depthwise && side == 1),
         "has a convolution that is not 1x1, 3x3 or 5x5");
    for (const auto& [name, value] : node.attributes)
      for (const int number : value.numbers)
        need(number == (name == "pads" ? side / 2 : name == "kernel_shape" ? side : 1),
             "has a convolution with strides, dilations or other padding than half its side");
    need(side == 1 || attribute(node, "pads") != nullptr, "has a convolution without padding");
    need(depthwise ? group == outputs && weights.sizes[1] == 1 && value(from).channels == outputs
                   : weights.sizes[1] == value(from).channels,
         "has a convolution that does not fit its input");
    Step step{.kind = depthwise ? Kind::depthwise : Kind::convolution, .input = from, .output = add_value(outputs, value(from).factor)};
    step.inputs = value(from).channels;
    step.side = side;
    step.weights = weights.floats;
    step.bias.resize(outputs);
    if (node.inputs.size() > 2) {
      step.bias = needed_constant(node, 2).floats;
      need(step.bias.size() == static_cast<std::size_t>(outputs), "has a bias that does not fit its convolution");
    }
    return push(std::move(step));
  }

  // Planes and planes, a vector, or a constant of one number or one a channel.
  int combine(const Node& node) {
    need(node.inputs.size() == 2, "has an operator with one input too few");
    std::string first = node.inputs[0], second = node.inputs[1];
    const bool divides = node.operation == "Div", adds = node.operation == "Add";
    if (!divides && !is_plane(first)) std::swap(first, second);
    const int from = tensor(plane(first));
    const int channels = value(from).channels;
    Step step{.kind = Kind::scale, .input = from, .output = add_value(channels, value(from).factor)};
    if (const Constant* known = constant(second)) {
      const std::size_t count = known->floats.size();
      need(count == 1 || (count == static_cast<std::size_t>(channels) && known->sizes.size() == 4 && known->sizes[1] == channels),
           "has a constant that does not fit its planes");
      step.weights.assign(channels, 1.0f);
      step.bias.resize(channels);
      for (int c = 0; c < channels; ++c) {
        const float v = known->floats[count == 1 ? 0 : c];
        (adds ? step.bias : step.weights)[c] = divides ? 1 / v : v;
      }
    } else if (const auto vector = vectors_.find(second); vector != vectors_.end()) {
      need(adds && network_.vectors_[vector->second].outputs == channels, "has a vector that does not fit its planes");
      step.weights.assign(channels, 1.0f);
      step.bias.resize(channels);
      step.vector = vector->second;
    } else {
      need(!divides, "divides by planes");
      step.kind = adds ? Kind::add : Kind::multiply;
      step.other = tensor(plane(second));
      need(value(step.other).channels == channels && value(step.other).factor == value(from).factor,
           "combines planes of different sizes");
    }
    return push(std::move(step));
  }

  int depth_to_space(int from, std::int64_t block, bool by_place) {
    need(block >= 2 && block <= 16 && value(from).channels % (block * block) == 0, "has an impossible depth to space");
    const auto side = static_cast<int>(block);
    Step step{.kind = Kind::depth_to_space, .input = from, .output = add_value(value(from).channels / (side * side), value(from).factor * side)};
    step.block = side;
    step.by_place = by_place;
    return push(std::move(step));
  }

  // Depth to space in channels (row, column, channel), written out as seven moves of whole blocks.
  std::size_t blocks(std::size_t index) {
    constexpr const char* wrong = "has transpositions that are not a depth to space";
    constexpr const char* kMoves[7] = {"Transpose", "Squeeze", "Reshape", "Transpose", "Reshape", "Reshape", "Transpose"};
    need(index + 7 <= graph_.nodes.size(), wrong);
    std::vector<int> numbers[7];
    for (int i = 0; i < 7; ++i) {
      const Node& node = graph_.nodes[index + i];
      need(node.operation == kMoves[i] && (i == 0 || node.inputs[0] == graph_.nodes[index + i - 1].outputs[0]), wrong);
      if (node.operation == "Transpose") {
        if (const Attribute* order = attribute(node, "perm")) numbers[i] = order->numbers;
      } else {
        numbers[i] = needed_constant(node, 1).integers;
      }
    }
    need(numbers[2].size() == 4, wrong);
    const int block = numbers[2][2], row = numbers[2][3];
    need(block >= 2 && block <= 16 && row >= block && row % block == 0, wrong);
    const std::vector<int> expected[7] = {{0, 2, 3, 1}, {0}, {0, 0, block, row}, {0, 2, 1, 3}, {0, 0, -1, row / block}, {1, -1, 0, 0}, {0, 3, 1, 2}};
    for (int i = 0; i < 7; ++i) need(numbers[i] == expected[i], wrong);
    const int from = tensor(plane(graph_.nodes[index].inputs[0]));
    need(value(from).channels / block == row && value(from).channels % block == 0, wrong);
    planes_[graph_.nodes[index + 6].outputs[0]] = depth_to_space(from, block, true);
    return index + 6;
  }

  void need_channel_axis(const Node& node) const {
    need(number(node, "axis", 0) == 1, "splits or joins something else than channels");
  }

  void split(const Node& node) {
    need_channel_axis(node);
    const int from = tensor(plane(node.inputs[0]));
    const std::vector<int> sizes = needed_constant(node, 1).integers;
    need(sizes.size() == node.outputs.size(), "has an impossible split");
    int first = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      need(sizes[i] >= 1 && sizes[i] <= value(from).channels - first, "has an impossible split");
      const int part = add_value(static_cast<int>(sizes[i]), value(from).factor);
      value(part).of = from;
      value(part).first = first;
      first += static_cast<int>(sizes[i]);
      planes_[node.outputs[i]] = part;
    }
    need(first == value(from).channels, "has an impossible split");
  }

  int concatenate(const Node& node) {
    need_channel_axis(node);
    std::vector<Network::Part> parts;
    for (const std::string& input : node.inputs) {
      const int id = plane(input);
      const Network::Value& v = value(id);
      need(v.factor == value(plane(node.inputs[0])).factor, "joins planes of different sizes");
      parts.push_back({v.of < 0 ? id : v.of, v.first, v.channels});
    }
    return gather(std::move(parts), value(plane(node.inputs[0])).factor);
  }

  // -------------------------------------------------------------------------------------------
  // Joining

  // The only step that reads a value; -1 if there are several, or if it is the output.
  int reader_of(int id) const {
    if (id == network_.output_) return -1;
    int reader = -1;
    for (std::size_t i = 0; i < network_.steps_.size(); ++i) {
      const Step& step = network_.steps_[i];
      int times = (step.input == id) + (step.other == id);
      for (const Network::Part& part : step.parts) times += part.value == id;
      if (times == 0) continue;
      if (reader >= 0 || times > 1) return -1;
      reader = static_cast<int>(i);
    }
    return reader;
  }

  void join() {
    fold_scales_into_readers();
    for (std::size_t i = 0; i < network_.steps_.size();) {
      const Kind kind = network_.steps_[i].kind;
      const bool joined = (kind == Kind::convolution || kind == Kind::depthwise) && join_next(i);
      if (!joined) ++i;
    }
  }

  // in * scale, then a convolution: the scale goes into the weights.
  void fold_scales_into_readers() {
    for (std::size_t i = 0; i < network_.steps_.size(); ++i) {
      const Step scale = network_.steps_[i];
      if (scale.kind != Kind::scale || scale.vector >= 0) continue;
      const int at = reader_of(scale.output);
      if (at < 0 || network_.steps_[at].kind != Kind::convolution) continue;
      bool only_factors = true;  // what is added would end at the border
      for (const float added : scale.bias) only_factors &= added == 0;
      if (!only_factors) continue;
      Step& reader = network_.steps_[at];
      const int taps = reader.side * reader.side;
      for (std::size_t k = 0; k < reader.weights.size(); ++k) reader.weights[k] *= scale.weights[k / taps % reader.inputs];
      reader.input = scale.input;
      network_.steps_.erase(network_.steps_.begin() + static_cast<std::ptrdiff_t>(i--));
    }
  }

  // Lets what follows the convolution at `i` become part of it; true if it did. A joined step
  // stands where the later one stood, since its other operand may be computed in between.
  bool join_next(std::size_t i) {
    std::vector<Step>& steps = network_.steps_;
    const int at = reader_of(steps[i].output);
    if (at < 0) return false;
    Step joined = steps[i];
    const Step& next = steps[at];
    const bool plain = joined.before == 1 && joined.after == 1;
    const bool convolution = joined.kind == Kind::convolution;
    switch (next.kind) {
      case Kind::scale: {
        if (!plain || joined.other >= 0 || joined.vector >= 0) {
          // A vector or a constant is added to sums as well as to a bias.
          const bool only_adds = std::all_of(next.weights.begin(), next.weights.end(), [](float w) { return w == 1; });
          if (!plain || !only_adds || !convolution || (joined.vector >= 0 && next.vector >= 0)) return false;
        }
        if (next.vector >= 0 && (!convolution || joined.block > 1)) return false;
        const std::size_t each = joined.weights.size() / joined.bias.size(), channels = next.bias.size();
        for (std::size_t k = 0; k < joined.weights.size(); ++k) joined.weights[k] *= next.weights[k / each % channels];
        for (std::size_t o = 0; o < joined.bias.size(); ++o) joined.bias[o] = joined.bias[o] * next.weights[o % channels] + next.bias[o % channels];
        if (next.vector >= 0) joined.vector = next.vector;
        break;
      }
      case Kind::leaky:
        if (!convolution || (joined.other < 0 ? joined.before : joined.after) != 1) return false;
        (joined.other < 0 ? joined.before : joined.after) = next.before;
        break;
      case Kind::add:
        if (!convolution || joined.other >= 0) return false;
        joined.other = next.input == joined.output ? next.other : next.input;
        break;
      case Kind::multiply:
        if (convolution || joined.other >= 0) return false;
        joined.other = next.input == joined.output ? next.other : next.input;
        break;
      case Kind::depth_to_space:
        if (!convolution || joined.other >= 0 || joined.vector >= 0 || joined.block > 1) return false;
        if (!next.by_place) order_by_place(joined, static_cast<std::size_t>(next.block) * next.block);
        joined.block = next.block;
        break;
      default:
        return false;
    }
    joined.output = next.output;
    steps[at] = std::move(joined);
    steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(i));
    return true;
  }

  // Outputs in the order in which depth to space moves them.
  static void order_by_place(Step& convolution, std::size_t places) {
    const std::size_t channels = convolution.bias.size() / places, each = convolution.weights.size() / convolution.bias.size();
    const std::vector<float> weights = convolution.weights, bias = convolution.bias;
    for (std::size_t o = 0; o < bias.size(); ++o) {
      const std::size_t from = o % channels * places + o / channels;
      std::copy_n(weights.data() + from * each, each, convolution.weights.data() + o * each);
      convolution.bias[o] = bias[from];
    }
  }

  Network& network_;
  Graph graph_;
  std::string name_;
  std::map<std::string, int> planes_, vectors_;
  std::map<std::string, int> bare_;  // inputs that are vectors, by the names of their casts
};

Network::Network(Graph graph, Channels channels, const std::string& name) {
  Planner(*this, std::move(graph), channels, name);
  find_borders();
  pack();
}

// What every value needs around it, and who reads it last.
void Network::find_borders() {
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const auto use = [&](int value, int border) {
      if (value < 0) return;
      values_[value].last_use = static_cast<int>(i);
      values_[value].border = std::max(values_[value].border, border);
    };
    use(step.input, step.kind == Step::Kind::convolution || step.kind == Step::Kind::depthwise ? step.side / 2 : 0);
    use(step.other, 0);
    for (const Part& part : step.parts) use(part.value, 0);
  }
  values_[output_].last_use = static_cast<int>(steps_.size());
  for (const auto& [name, value] : inputs_) values_[value].last_use = -1;  // they are the caller's
  for (std::size_t i = steps_.size(); i-- > 0;) {
    Step& step = steps_[i];
    if (replaced(step) < 0) continue;
    Value &value = values_[replaced(step)], &output = values_[step.output];
    step.in_place = value.last_use == static_cast<int>(i) && value.factor == output.factor && replaced(step) != step.input;
    if (step.in_place) value.border = output.border = std::max(value.border, output.border);
  }
}

// A value of the shape of the output, of which each element is read when, or before, that of the output is written.
int Network::replaced(const Step& step) {
  const bool convolution = step.kind == Step::Kind::convolution || step.kind == Step::Kind::depthwise;
  return convolution || step.kind == Step::Kind::add ? step.other : -1;
}

namespace {

// Weights of a 3x3 convolution for Kernels::winograd.
std::vector<float> transformed(const std::vector<float>& weights, std::size_t inputs, std::size_t outputs, std::size_t panel) {
  const auto spread = [](const float* in, int step, float* out, int out_step) {
    const float a = in[0], b = in[step], c = in[2 * step], near = (a + c) / 6, far = a / 24 + c / 6;
    const float all[6] = {a / 4, -near - b / 6, b / 6 - near, far + b / 12, far - b / 12, c};
    for (int i = 0; i < 6; ++i) out[i * out_step] = all[i];
  };
  std::vector<float> packed(4 * weights.size());
  for (std::size_t o = 0; o < outputs; ++o)
    for (std::size_t c = 0; c < inputs; ++c) {
      float rows[18], all[36];
      for (int k = 0; k < 3; ++k) spread(weights.data() + (o * inputs + c) * 9 + k, 3, rows + k, 3);
      for (int i = 0; i < 6; ++i) spread(rows + 3 * i, 1, all + 6 * i, 1);
      for (std::size_t place = 0; place < 36; ++place)
        packed[((place * outputs / panel + o / panel) * inputs + c) * panel + o % panel] = all[place];
    }
  return packed;
}

}  // namespace

// Weights in the order in which kernels read them.
void Network::pack() {
  const auto panel = static_cast<std::size_t>(kernels().panel);
  for (Step& step : steps_) {
    const std::size_t outputs = step.bias.size(), taps = static_cast<std::size_t>(step.side) * step.side;
    if (step.kind == Step::Kind::convolution) {
      const std::size_t panels = (outputs + panel - 1) / panel, inputs = step.inputs;
      step.winograd = step.side == 3 && outputs % panel == 0 && inputs % panel == 0;
      if (step.winograd) {
        step.weights = transformed(step.weights, inputs, outputs, panel);
        continue;
      }
      std::vector<float> packed(panels * taps * inputs * panel);
      for (std::size_t o = 0; o < outputs; ++o)
        for (std::size_t c = 0; c < inputs; ++c)
          for (std::size_t tap = 0; tap < taps; ++tap)
            packed[((o / panel * taps + tap) * inputs + c) * panel + o % panel] = step.weights[(o * inputs + c) * taps + tap];
      step.weights = std::move(packed);
      step.bias.resize(panels * panel);
    } else if (step.kind == Step::Kind::depthwise) {
      std::vector<float> packed(step.weights.size());
      for (std::size_t o = 0; o < outputs; ++o)
        for (std::size_t tap = 0; tap < taps; ++tap) packed[tap * outputs + o] = step.weights[o * taps + tap];
      step.weights = std::move(packed);
    }
  }
}

Tensor Network::input(const std::string& name, int height, int width) const {
  const Value& value = values_[inputs_.find(name)->second];
  return Tensor(height, width, value.channels, value.border);
}

std::size_t Network::scratch_of(const Step& step) {
  return step.winograd ? 36 * static_cast<std::size_t>(kernels().tiles) * (step.inputs + step.bias.size()) : 0;
}

std::size_t Network::count_of(int value, int height, int width) const {
  const Value& v = values_[value];
  return Tensor::size_of(height * v.factor, width * v.factor, v.channels, v.border);
}

int Network::reach() const {
  std::vector<double> reach(values_.size(), 0);
  for (const Step& step : steps_) {
    double furthest = 0;
    if (step.input >= 0)
      furthest = reach[step.input] + (step.kind == Step::Kind::convolution || step.kind == Step::Kind::depthwise
                                          ? static_cast<double>(step.side / 2) / values_[step.input].factor
                                          : 0.0);
    if (step.other >= 0) furthest = std::max(furthest, reach[step.other]);
    for (const Part& part : step.parts) furthest = std::max(furthest, reach[part.value]);
    reach[step.output] = furthest;
  }
  return static_cast<int>(std::ceil(reach[output_]));
}

std::size_t Network::peak_bytes(int height, int width) const {
  std::size_t now = 0, most = 0;
  for (const auto& [name, value] : inputs_) now += count_of(value, height, width);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const std::size_t count = count_of(steps_[i].output, height, width);
    most = std::max(most, now + (steps_[i].in_place ? 0 : count) + scratch_of(steps_[i]));
    now += count;
    for (std::size_t v = 0; v < values_.size(); ++v)
      if (values_[v].last_use == static_cast<int>(i)) now -= count_of(static_cast<int>(v), height, width);
  }
  return most * sizeof(float);
}

Tensor Network::run(std::initializer_list<Planes> planes, std::initializer_list<Numbers> vectors) const {
  std::vector<std::vector<float>> sums;  // of vectors and their tables
  for (const Vector& vector : vectors_) {
    const std::vector<float>* given = nullptr;
    for (const Numbers& numbers : vectors)
      if (vector.input == numbers.input) given = &numbers.numbers;
    if (given == nullptr || given->size() != static_cast<std::size_t>(vector.inputs))
      fail_bundle("A graph of the bundle has an input ", vector.input, " that does not fit.");
    std::vector<float> sum(vector.outputs);
    for (int i = 0; i < vector.inputs; ++i)
      if (const float weight = (*given)[i]; weight != 0)
        for (int o = 0; o < vector.outputs; ++o) sum[o] += weight * vector.table[static_cast<std::size_t>(i) * vector.outputs + o];
    sums.push_back(std::move(sum));
  }
  std::vector<Tensor> held(values_.size());
  std::vector<const Tensor*> known(values_.size(), nullptr);
  int height = 0, width = 0;
  for (const Planes& given : planes) {
    known[inputs_.find(given.input)->second] = &given.planes;
    height = given.planes.height();
    width = given.planes.width();
  }
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const Value& value = values_[step.output];
    Tensor& out = held[step.output];
    if (step.in_place) {
      out = std::move(held[replaced(step)]);
      known[replaced(step)] = &out;
    } else {
      out = Tensor(height * value.factor, width * value.factor, value.channels, value.border);
    }
    known[step.output] = &out;
    std::vector<float> bias = step.bias;
    if (step.vector >= 0)
      for (std::size_t o = 0; o < sums[step.vector].size(); ++o) bias[o] += sums[step.vector][o];
    apply(step, known, bias, out);
    for (std::size_t v = 0; v < values_.size(); ++v)
      if (values_[v].last_use == static_cast<int>(i)) held[v] = Tensor();
  }
  return std::move(held[output_]);
}

void Network::apply(const Step& step, const std::vector<const Tensor*>& known, const std::vector<float>& bias, Tensor& out) const {
  const Tensor* in = step.input < 0 ? nullptr : known[step.input];
  const Tensor* other = step.other < 0 ? nullptr : known[step.other];
  const std::ptrdiff_t count = static_cast<std::ptrdiff_t>(out.width()) * out.channels();
  switch (step.kind) {
    case Step::Kind::convolution: {
      const int outputs = step.block * step.block * out.channels();
      const Convolution job{in->height(), in->width(), step.side, step.inputs, outputs, step.block, outputs / step.block, in->row(0), in->pitch(),
                            out.row(0), out.pitch(), step.weights.data(), bias.data(), other == nullptr ? nullptr : other->row(0),
                            other == nullptr ? 0 : other->pitch(), step.before, step.after};
      if (step.winograd)
        kernels().winograd(job, std::make_unique_for_overwrite<float[]>(scratch_of(step)).get());
      else
        kernels().convolution(job);
      return;
    }
    case Step::Kind::depthwise:
      kernels().depthwise({out.height(), out.width(), step.side, out.channels(), in->row(0), in->pitch(), out.row(0), out.pitch(),
                           step.weights.data(), bias.data(), other == nullptr ? nullptr : other->row(0),
                           other == nullptr ? 0 : other->pitch()});
      return;
    case Step::Kind::gather:
      for (int y = 0; y < out.height(); ++y)
        for (int x = 0; x < out.width(); ++x) {
          float* to = out.at(y, x);
          for (const Part& part : step.parts) to = std::copy_n(known[part.value]->at(y, x) + part.first, part.count, to);
        }
      return;
    case Step::Kind::depth_to_space: {
      const int block = step.block, channels = out.channels();
      for (int y = 0; y < in->height(); ++y)
        for (int i = 0; i < block; ++i)
          for (int x = 0; x < in->width(); ++x) {
            const float* from = in->at(y, x);
            float* to = out.at(y * block + i, x * block);
            if (step.by_place) {
              std::copy_n(from + static_cast<std::ptrdiff_t>(i) * block * channels, block * channels, to);
              continue;
            }
            for (int j = 0; j < block; ++j)
              for (int c = 0; c < channels; ++c) *to++ = from[(c * block + i) * block + j];
          }
      return;
    }
    default:
      break;
  }
  for (int y = 0; y < out.height(); ++y) {
    const float* a = in->row(y);
    const float* b = other == nullptr ? nullptr : other->row(y);
    float* to = out.row(y);
    if (step.kind == Step::Kind::add) {
      for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = a[i] + b[i];
    } else if (step.kind == Step::Kind::multiply) {
      for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = a[i] * b[i];
    } else if (step.kind == Step::Kind::leaky) {
      for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = a[i] > 0 ? a[i] : a[i] * step.before;
    } else {
      const int channels = out.channels();
      for (std::ptrdiff_t i = 0; i < count; i += channels)
        for (int c = 0; c < channels; ++c) to[i + c] = a[i + c] * step.weights[c] + bias[c];
    }
  }
}

}  // namespace softstair
