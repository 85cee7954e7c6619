// SPDX-License-Identifier: Apache-2.0
// Context networks, which a bundle may have: what symbols that were already read say of the next, in
// integers. docs/format/context.md has grids and order.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "layers.hpp"
#include "tables.hpp"

namespace softstair {

constexpr int kContextBlock = kPanel;       // latents of a place that are read without knowing each other
constexpr int kNearPlaces = 4;       // left, above, above left, above right: two positions away
constexpr int kMeans = 2;            // of the surprises of a channel so far, over 16 and over 64 places
constexpr int kMeanBits = 5;         // they are in 2^-12, their weights in 2^-7
constexpr int kAround = 4, kOwn = 6;  // neighbours of z that a place sees: in all channels, in its own
constexpr int kHyperRows = 28, kMeanParts = 8;  // scales of z, and parts of a step that means lie at
constexpr int kLargestHyper = 127;
constexpr std::int32_t kLargestRate = 1 << 24;  // of biases that depend on the rate

// Surprises and signs are in 2^-7, weights in 2^-12, their sums in 2^-8: rows, or leans.
constexpr Range kRows{-8191, 8191};
constexpr Requantize kRowsFromSurprise{7 + 12 - 8, kRows};

constexpr int kMostLeans = 7, kMostSkews = 63;  // of signs, either way, and how far their tables may lean
constexpr Requantize kSignFromUnits{6, {-256, 256}};

// Weights of the sums of a place, in panels as kernels read them: two inputs, sixteen outputs; and what rows make of the
// sums. Channels are in the order of reading.
struct PlaceWeights {
  bool simd;
  int blocks;
  int nears;                         // what is seen of every channel: places, and means of places before
  std::vector<std::int16_t> before;  // by group, then of the blocks 1, 2, .. those before: (pairs of channels, 16, 2)
  std::vector<std::int16_t> near;    // by phase, group and block: (pairs of nears, 16, 2)
  std::vector<RowFactor> factors;    // by row, behind one of kSkipped

  int rows() const { return static_cast<int>(factors.size()) - 1; }

  const std::int16_t* of_before(int group, int block) const {
    return before.data() + static_cast<std::ptrdiff_t>(group * blocks * (blocks - 1) + block * (block - 1)) / 2 * kContextBlock * kContextBlock;
  }
  const std::int16_t* of_near(int phase, int group, int block) const {
    return near.data() + static_cast<std::ptrdiff_t>((4 * phase + group) * blocks + block) * nears * kContextBlock;
  }
};

// What latents of a place say of the scales of others of the same phase there. Immutable.
//
// A group of G channels is read in G / 16 blocks; block b has the channels b, b + G / 16, ...
class PlaceNetwork {
 public:
  struct Parts {
    std::vector<std::int16_t> weight;                // (4, G, G), group, output, input
    std::vector<std::int16_t> near;                  // (4, 4, kNearPlaces + kMeans, G), phase, group; or (4, kNearPlaces, G), group
    std::vector<std::int16_t> expected, gain, bias;  // a row each
  };
  // Throws std::invalid_argument if shapes do not fit, a channel would see one that is not yet read, or an
  // accumulator could overflow.
  PlaceNetwork(Parts parts, bool simd);

  int group() const { return group_; }
  int blocks() const { return group_ / kContextBlock; }
  int rows() const { return weights_.rows(); }

 private:
  friend class PlaceField;
  int group_ = 0;
  PlaceWeights weights_;
  std::vector<std::int16_t> expected_;  // by row, behind one of kSkipped
};

// Which sign latents of a place lean to, by the signs of others of the same phase there. Immutable.
class SignNetwork {
 public:
  // weight: (4, G, G), group, input, output; near: (4, 4, kNearPlaces, G), phase, group; channels of both in the
  // order of reading. gain, unit, growth: a row each; skew: of every lean. Of the last two see Tables::leaning.
  // Throws std::invalid_argument as above; a group has at most 240 channels.
  SignNetwork(const std::vector<std::int16_t>& weight, const std::vector<std::int16_t>& near, const std::vector<std::int16_t>& gain,
              const std::vector<std::int16_t>& unit, std::vector<std::int16_t> growth, std::vector<std::int16_t> skew, bool simd);

  int group() const { return group_; }
  int rows() const { return weights_.rows(); }
  int leans() const { return std::min(kMostLeans, static_cast<int>(skew_.size())); }
  // The tables of a mode for every lean. Throws std::invalid_argument if they have other rows.
  Tables leaning(const Tables& tables) const;

 private:
  friend class PlaceField;
  int group_;
  PlaceWeights weights_;
  std::vector<std::int16_t> unit_;          // by row, behind one of kSkipped
  std::vector<std::int16_t> growth_, skew_;
};

// The numbers of the bits that are set, rising.
class Bits {
 public:
  explicit Bits(unsigned set) : left_(set) {}
  Bits begin() const { return *this; }
  Bits end() const { return Bits(0); }
  bool operator!=(const Bits& other) const { return left_ != other.left_; }
  int operator*() const { return std::countr_zero(left_); }
  void operator++() { left_ &= left_ - 1; }

 private:
  unsigned left_;
};

// The place networks' view of a tile: follows the places of a phase line by line, from left to right, and the coded
// latents of a place block by block:
//
//     for (field.begin_place(x); field.next_block();)
//       for (const int i : Bits(field.coded())) { .. field.row(i) .. field.see(i, ..); }
class PlaceField {
 public:
  // signs: may be null; then nothing leans.
  PlaceField(std::shared_ptr<const PlaceNetwork> network, std::shared_ptr<const SignNetwork> signs, int width);

  void begin_phase(int phase);
  // rows: what the scale network says of the line, (width, G); they must stay. A line may begin again.
  void begin_line(int y, const std::int16_t* rows);
  void begin_place(int x);
  // Goes on to the next block of which anything is coded. False if there is none.
  bool next_block();
  void end_line();

  // What is coded of the block, a bit each: 1 << i of the latent i.
  unsigned coded() const { return coded_[block_]; }
  // Where such a latent lies in its group.
  int channel(int i) const { return channel(block_, i); }
  int channel(int block, int i) const { return i * blocks_ + block; }
  int blocks() const { return blocks_; }
  // Its table row, and which sign it leans to and how much: with -2 the negative of the symbol is coded by the tables of
  // class 2.
  int row(int i) const { return row_[i]; }
  int lean(int i) const { return lean_[i]; }
  // What it turned out to be: its magnitude, and half steps.
  void see(int i, int magnitude, int half_steps) {
    magnitude_[i] = static_cast<std::int16_t>(magnitude * (1 << kMagnitudeShift));
    half_steps_[i] = half_steps;
  }

 private:
  static constexpr int kMagnitudeShift = 7 - 4;  // to the grid of surprises
  std::size_t place(int line, int x) const {
    return (static_cast<std::size_t>(line) * (width_ + 4) + x + 2) * network_->group();
  }
  int group_at(int x) const;
  void go_on();
  void sum_known(const PlaceWeights& weights, const std::vector<std::int16_t>& lines, bool near_is_clipped, std::int32_t* sums) const;
  void finish(const PlaceWeights& weights, const std::vector<std::int16_t>& lines, std::int32_t* sums, const std::int16_t* row,
              const std::int16_t* start, Range range, std::int16_t* out) const;

  std::shared_ptr<const PlaceNetwork> network_;
  std::shared_ptr<const SignNetwork> signs_;
  int width_, blocks_, phase_ = 0, y_ = 0;
  const std::int16_t* rows_ = nullptr;
  // Lines, (width + 4, G) in the order of reading: the last even one, the last odd one, this one.
  std::vector<std::int16_t> surprise_, sign_;
  std::vector<std::int16_t> means_;  // of surprises up to the line before, 2^-12: (kMeans, 4, G) in the order of reading

  // Of the place, in the order of reading.
  int group_here_ = 0, block_ = 0, next_ = 0;  // blocks that are read now, and then
  std::size_t here_ = 0;                       // in the lines
  std::vector<std::int16_t> given_;            // rows
  std::vector<std::uint16_t> coded_;           // by block: which are, a bit each
  std::int16_t row_[kContextBlock] = {}, lean_[kContextBlock] = {};            // of the block that is read
  std::int16_t magnitude_[kContextBlock] = {}, expected_[kContextBlock] = {};  // of it, too, in 2^-7
  std::int32_t half_steps_[kContextBlock] = {}, unit_[kContextBlock] = {};     // of it, too
  std::int32_t row_sums_[kContextBlock] = {}, lean_sums_[kContextBlock] = {};  // of the next, so far
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
  std::vector<std::int16_t> around_;         // by panel of hidden units: (pairs of kAround * n, 16, 2)
  std::vector<std::int16_t> before_, head_;  // (n, padded), (n, 2, padded)
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
  const HyperNetwork& network_;
  const std::vector<std::int32_t>& rate_;
  std::vector<std::int32_t> sums_;
  std::vector<std::int16_t> active_;  // what is made of them
  std::vector<std::int16_t> around_;  // what all of them see, clipped
  std::array<const std::int16_t*, kOwn> near_{};  // places, or null
};

}  // namespace softstair
