// SPDX-License-Identifier: Apache-2.0
// What a decoder needs of a bundle (.stairs): docs/format/bundle.md.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "network.hpp"
#include "stream.hpp"
#include "tile_decoder.hpp"

namespace softstair {

struct Json;
struct Entries;

class Bundle {
 public:
  // The bytes are not needed afterwards. Throws Error (STAIR_INVALID_BUNDLE).
  explicit Bundle(Bytes bytes);

  const Fingerprint& fingerprint() const { return fingerprint_; }
  int channels() const { return static_cast<int>(gains_[0].size()); }
  // How many latents of every group the icon network sees.
  int icon_group() const { return std::min(16, channels() / kPhases); }
  int points() const { return static_cast<int>(gains_.size()); }
  int last_position() const { return 16 * (points() - 1); }
  bool has_mode(int mode) const { return modes_[mode].has_value(); }

  // All that decides how symbols at a rate position are read in a mode. layer: of so many layers on, whose
  // steps are those of the position halved as often.
  Model model(int position, int mode, int layer = 0) const;
  // Of every channel, in latent units.
  std::vector<float> steps(int position, int mode) const;
  // Where the members 0, 1, .. of the fine grid lie, in steps; empty if they are uniform.
  std::vector<float> levels(int position, int mode) const;
  // Interpolation weights of a rate position over the rate points.
  std::vector<float> hat(int position) const;

  const Network& mean_base() const { return *mean_base_; }
  const Network& mean() const { return *mean_; }
  const Network& synthesis(int mode) const { return own_[mode] ? *own_[mode] : *synthesis_; }
  // Makes pictures of a quarter; null if there is none.
  const Network* preview() const { return preview_ ? &*preview_ : nullptr; }
  // In the mean network's place for the first latents of every group, and to colours; null if there is none.
  const Network* icon() const { return icon_ ? &*icon_ : nullptr; }

 private:
  struct Mode {
    int step = 0, skip = 0;
    std::vector<std::vector<std::int32_t>> levels;
    std::shared_ptr<const Tables> tables;
    mutable std::shared_ptr<const Tables> leaning;  // of pages, which have one thread
  };
  void read_staircases(Bytes bytes);
  void read_scale(Bytes bytes);
  void read_tables(Bytes bytes);
  void read_context(Bytes bytes);
  void read_networks(const Entries& entries);
  std::vector<std::int32_t> exponent(int position, int mode) const;

  Fingerprint fingerprint_{};
  std::vector<std::vector<std::int32_t>> gains_;
  int base_ = 0;
  std::array<std::optional<Mode>, kModes.size()> modes_;
  std::shared_ptr<const ScaleNetwork> scale_;
  std::vector<std::vector<std::int32_t>> rate_bias_;
  std::vector<std::shared_ptr<const Tables>> z_tables_;  // of every rate point
  std::shared_ptr<const PlaceNetwork> place_;  // context networks, or null
  std::shared_ptr<const SignNetwork> signs_;
  std::shared_ptr<const HyperNetwork> hyper_;
  std::vector<std::vector<std::int32_t>> hyper_rate_;
  std::optional<Network> mean_base_, mean_, synthesis_, preview_, icon_;
  std::array<std::optional<Network>, kModes.size()> own_;
};

}  // namespace softstair
