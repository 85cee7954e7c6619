// SPDX-License-Identifier: Apache-2.0
// Context networks, which a bundle may have: what symbols that were already read say of the next, in
// integers. docs/format/context.md has grids and order.
#pragma once

#include <algorithm>
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

constexpr int kMostLeans = 7;  // of signs, either way
constexpr int kLargestSign = 2;  // half steps that a symbol counts at most

// What latents of a place say of the scales of others of the same phase there. Immutable.
//
// A group of G channels is read in G / 16 blocks; block b has the channels b, b + G / 16, ...
class PlaceNetwork {
 public:
  // weight: (4, G, G), group, output, input; near: (4, kNearPlaces, G); expected, gain, bias: a row each.
  // Throws std::invalid_argument if shapes do not fit, a channel would see one that is not yet read, or an
  // accumulator could overflow.
  PlaceNetwork(const std::vector<std::int16_t>& weight, const std::vector<std::int16_t>& near,
               std::vector<std::int16_t> expected, const std::vector<std::int16_t>& gain,
               const std::vector<std::int16_t>& bias, bool simd);

  int group() const { return group_; }
  int blocks() const { return group_ / kContextBlock; }
  int rows() const { return static_cast<int>(factors_.size()); }

 private:
  friend class PlaceField;
  int group_;
  bool simd_;
  std::array<std::vector<Matrix>, 4> before_;  // by group, of the blocks 1, 2, ..
  std::array<Depthwise, 4> near_;
  std::vector<std::int16_t> expected_;
  std::vector<RowFactor> factors_;
};

// Which sign latents of a place lean to, by the signs of others of the same phase there. Immutable.
class SignNetwork {
 public:
  // weight: (4, G, G), group, input, output; near: (4, 4, kNearPlaces, G), phase, group; channels of both in the
  // order of reading. gain: a row each; skew: of every lean, see Tables::leaning.
  // Throws std::invalid_argument as above; a group has at most 240 channels.
  SignNetwork(std::vector<std::int16_t> weight, std::vector<std::int16_t> near, const std::vector<std::int16_t>& gain,
              std::vector<std::int16_t> skew, bool simd);

  int group() const { return group_; }
  int rows() const { return static_cast<int>(factors_.size()); }
  int leans() const { return static_cast<int>(skew_.size()); }
  const std::vector<std::int16_t>& skew() const { return skew_; }

 private:
  friend class PlaceField;
  int group_;
  bool simd_;
  std::vector<std::int16_t> weight_, near_;
  std::vector<RowFactor> factors_;  // nothing is added: none leans by itself
  std::vector<std::int16_t> skew_;
};

// Table rows of a block, kSkipped where nothing is coded, and which sign latents lean to and how much: with -2
// the negative of the symbol is coded by the tables of class 2.
struct BlockRows {
  std::int16_t row[kContextBlock], lean[kContextBlock];
};

// Symbols of a block: magnitudes, any where nothing is coded; half steps, clipped, zero there; and a bit for each
// that is not zero.
struct BlockSymbols {
  std::uint8_t magnitude[kContextBlock] = {};
  std::int16_t half_steps[kContextBlock] = {};
  unsigned there = 0;

  void put(int i, std::uint8_t of_magnitude, int of_half_steps) {
    magnitude[i] = of_magnitude;
    half_steps[i] = static_cast<std::int16_t>(std::clamp(of_half_steps, -kLargestSign, kLargestSign));
    there |= static_cast<unsigned>(of_half_steps != 0) << i;
  }
};

// The place networks' view of a tile: follows the places of a phase line by line, from left to right.
class PlaceField {
 public:
  // signs: may be null; then nothing leans.
  PlaceField(std::shared_ptr<const PlaceNetwork> network, std::shared_ptr<const SignNetwork> signs, int width);

  void begin_phase(int phase);
  // rows: what the scale network says of the line, (width, G); they must stay. A line may begin again.
  void begin_line(int y, const std::int16_t* rows);
  // Of a block of the place x, which is seen next. False if nothing of it is coded.
  bool correct(int x, int block, BlockRows& out);
  void see(int x, int block, const BlockSymbols& symbols);
  void end_line();

  // Where a block's latent lies in its group.
  int channel(int block, int i) const { return i * blocks_ + block; }
  int blocks() const { return blocks_; }

 private:
  std::size_t place(int line, int x) const {
    return (static_cast<std::size_t>(line) * (width_ + 4) + x + 2) * network_->group();
  }
  int group_at(int x) const;
  void begin_place(int x);

  std::shared_ptr<const PlaceNetwork> network_;
  std::shared_ptr<const SignNetwork> signs_;
  int width_, blocks_, phase_ = 0, y_ = 0;
  const std::int16_t* rows_ = nullptr;
  std::int16_t given_[kContextBlock] = {};  // of these, those of the block that is read
  // Lines, (width + 4, G) in the order of reading: the last even one, the last odd one, this one.
  std::vector<std::int16_t> surprise_, sign_;
  std::vector<std::int16_t> of_near_;    // of the place, (G)
  std::vector<std::int32_t> sign_sums_;  // of the place, too, with what was read there
  std::array<std::vector<TapPair>, 2> taps_;  // by parity of the line
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
  HyperNetwork(Parts parts, int channels, std::shared_ptr<const Tables> tables, bool simd);

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
  bool simd_;
  int hidden_ = 0, padded_ = 0;  // padded_: to full panels
  double least_ = 0;
  std::vector<int> place_;  // by channel
  std::vector<std::int16_t> around_, before_;  // (kAround, n, padded), (n, padded)
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
  HyperRow row(int number);
  void see(int number, int symbol);

 private:
  void add(const std::int16_t* column, int symbol);

  const HyperNetwork& network_;
  const std::vector<std::int32_t>& rate_;
  std::vector<std::int32_t> sums_;
  std::vector<std::int16_t> active_;  // what is made of them
  std::array<const std::int16_t*, kOwn> near_{};  // places, or null
};

}  // namespace softstair
