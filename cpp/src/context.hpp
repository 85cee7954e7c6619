// SPDX-License-Identifier: Apache-2.0
// Context networks, which a bundle may have: what symbols that were already read say of the next, in
// integers. docs/format/context.md has grids and order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "layers.hpp"
#include "tables.hpp"

namespace softstair {

constexpr int kContextBlock = kPanel;       // latents of a place that are read without knowing each other
constexpr int kNearPlaces = 4;       // left, above, above left, above right: two positions away
constexpr int kAround = 4, kOwn = 6;  // neighbours of z that a place sees: in all channels, in its own
constexpr int kHyperRows = 28, kMeanParts = 8;  // scales of z, and parts of a step that means lie at
constexpr int kLargestHyper = 127;
constexpr std::int32_t kLargestRate = 1 << 24;  // of biases that depend on the rate

// What latents of a place say of others of the same phase there. Immutable.
//
// A group of G channels is read in G / 16 blocks; block b has the channels b, b + G / 16, ...
class PlaceNetwork {
 public:
  // weight: (4, G, G), group, output, input; near: (4, kNearPlaces, G); expected, gain, bias: a row each.
  // Throws std::invalid_argument if shapes do not fit, a channel would see one that is not yet read, or an
  // accumulator could overflow.
  PlaceNetwork(const std::vector<std::int16_t>& weight, const std::vector<std::int16_t>& near,
               std::vector<std::int16_t> expected, std::vector<std::int16_t> gain,
               std::vector<std::int16_t> bias, bool simd);

  int group() const { return group_; }
  int blocks() const { return group_ / kContextBlock; }
  int rows() const { return static_cast<int>(expected_.size()); }

 private:
  friend class PlaceField;
  int group_;
  std::array<std::vector<Matrix>, 4> before_;  // by group, of the blocks 1, 2, ..
  std::array<Depthwise, 4> near_;
  std::vector<std::int16_t> expected_, gain_, bias_;
};

// The place network's view of a tile: follows the places of a phase line by line, from left to right.
class PlaceField {
 public:
  PlaceField(std::shared_ptr<const PlaceNetwork> network, int width);

  void begin_phase(int phase);
  // rows: what the scale network says of the line, (width, G); they must stay. A line may begin again.
  void begin_line(int y, const std::int16_t* rows);
  // Table rows of a block of the place x, 16 of them; kSkipped where nothing is coded.
  void correct(int x, int block, std::int16_t* out);
  // Magnitudes of that block's symbols, 16; where nothing is coded, any.
  void see(int x, int block, const std::uint8_t* magnitude);
  void end_line();

  // Where a block's latent lies in its group.
  int channel(int block, int i) const { return i * blocks_ + block; }
  int blocks() const { return blocks_; }

 private:
  std::int16_t* surprise(int line, int x) {
    return surprise_.data() + (static_cast<std::size_t>(line) * (width_ + 4) + x + 2) * network_->group();
  }
  int group_at(int x) const;

  std::shared_ptr<const PlaceNetwork> network_;
  int width_, blocks_, phase_ = 0, y_ = 0;
  const std::int16_t* rows_ = nullptr;
  // Lines of surprises, (width + 4, G) in the order of reading: the last even one, the last odd one, this one.
  std::vector<std::int16_t> surprise_;
  std::array<std::vector<TapPair>, 2> taps_;  // by parity of the line
  std::vector<std::int16_t> of_near_;         // of the place, (G)
  std::vector<std::int32_t> start_;
};

// Mean and scale of every z from what was read before. Immutable.
class HyperNetwork {
 public:
  struct Parts {
    std::vector<std::int32_t> live;     // (n), channels that it tells of, rising
    std::vector<std::int16_t> around;   // (hidden, kAround, n)
    std::vector<std::int16_t> before;   // (hidden, n)
    std::vector<std::int16_t> head;     // (n, 2, hidden)
    std::vector<std::int16_t> own;      // (n, 2, kOwn)
  };
  // Throws std::invalid_argument if shapes do not fit or an accumulator could overflow.
  HyperNetwork(Parts parts, int channels, std::shared_ptr<const Tables> tables);

  int channels() const { return static_cast<int>(place_.size()); }
  int live() const { return static_cast<int>(parts_.live.size()); }
  int hidden() const { return hidden_; }
  // Length of a bias that depends on the rate: hidden() and two of every live channel.
  std::size_t rate_size() const { return static_cast<std::size_t>(hidden_) + 2 * parts_.live.size(); }
  const Tables& tables() const { return *tables_; }
  // What the cheapest symbol of any row costs.
  double least() const { return least_; }
  // Number of a channel among the live ones, or -1.
  int live_number(int channel) const { return place_[channel]; }

 private:
  friend class HyperPlace;
  Parts parts_;
  int hidden_ = 0;
  double least_ = 0;
  std::vector<int> place_;  // by channel
  std::vector<std::int16_t> around_, before_;  // (kAround, n, hidden), (n, hidden)
  std::shared_ptr<const Tables> tables_;
};

// Table row of a z, and what is to be added to its symbol.
struct HyperRow {
  int row, base;
};

// One place of z while its channels are read.
class HyperPlace {
 public:
  HyperPlace(const HyperNetwork& network, const std::vector<std::int32_t>& rate);

  // z: (.., width, channels), read up to this place.
  void begin(const std::int16_t* z, int y, int x, int width);
  // Of a live channel, by its number; all before it must have been seen.
  HyperRow row(int number) const;
  void see(int number, int symbol);

 private:
  const HyperNetwork& network_;
  const std::vector<std::int32_t>& rate_;
  std::vector<std::int32_t> sums_;
  std::array<const std::int16_t*, kOwn> near_{};  // places, or null
};

}  // namespace softstair
