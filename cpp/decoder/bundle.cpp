// SPDX-License-Identifier: Apache-2.0
#include "bundle.hpp"

#include <algorithm>
#include <cmath>

#include "checksums.hpp"
#include "entries.hpp"
#include "json.hpp"
#include "refuse.hpp"

namespace softstair {
namespace {

constexpr int kPositionsPerPoint = 16, kPositionsPerOctave = 32;
constexpr int kLevelsPerStep = 1024, kLargestGain = 1024;
constexpr const char *kPreview = "preview.onnx", *kIcon = "icon.onnx";
constexpr int kDeciding = 6;  // so many entries of every bundle decide how files are read
constexpr std::array<const char*, 11> kEntries = {"staircases.json", "scale.safetensors", "tables.safetensors", "mean_base.onnx",      "mean.onnx", "synthesis.onnx",
                                                  "manifest.json",   "analysis.onnx",     "hyper_analysis.onnx", kPreview, kIcon};
constexpr std::array<const char*, 10> kLayers = {"hyper",  "expand",          "mix",   "log_scale_head", "neighbours",
                                                 "gather", "log_scale_entry", "local", "widen",          "correction_head"};

constexpr const char* kContext = "context.safetensors";

std::string synthesis_of(std::size_t mode) { return std::string("synthesis.") + kModes[mode] + ".onnx"; }

// 2^(e / 32), of five roots: std::exp2 has a table of 4 kB, which a browser would have to load, and octaves are few.
double power_of_two(std::int32_t e) {
  static_assert(kPositionsPerOctave == 32);
  constexpr double kRoots[] = {1.0218971486541166, 1.0442737824274138, 1.0905077326652577, 1.189207115002721, 1.4142135623730951};
  double fraction = 1;
  for (int bit = 0; bit < 5; ++bit)
    if ((e >> bit & 1) != 0) fraction *= kRoots[bit];
  int octave = e >> 5;
  for (; octave > 0; --octave) fraction *= 2;
  for (; octave < 0; ++octave) fraction /= 2;
  return fraction;
}

Fingerprint fingerprint_of(const Entries& entries) {
  Sha256 digest;
  const auto add = [&](const std::string& name) {
    const Bytes content = entries.at(name);
    const std::string head = name + '\0' + decimal(content.size()) + '\0';
    digest.add({reinterpret_cast<const std::uint8_t*>(head.data()), head.size()});
    digest.add(content);
  };
  for (int i = 0; i < kDeciding; ++i) add(kEntries[i]);
  for (std::size_t mode = 0; mode < kModes.size(); ++mode)
    if (entries.has(synthesis_of(mode))) add(synthesis_of(mode));
  if (entries.has(kContext)) add(kContext);
  Fingerprint result;
  std::copy_n(digest.finish().begin(), result.size(), result.begin());
  return result;
}

void check_names(const Entries& entries) {
  for (const auto& [name, content] : entries.bytes) {
    bool known = name == kContext;
    for (const char* entry : kEntries) known |= name == entry;
    for (std::size_t mode = 0; mode < kModes.size(); ++mode) known |= name == synthesis_of(mode);
    if (!known) fail_bundle("The bundle has an entry ", name, ", which bundles do not have.");
  }
}

void need(bool holds, const char* why) {
  if (!holds) refuse(why);
}

// Runs `read` on an entry; what it throws becomes an error that names the entry.
template <typename Read>
void reading([[maybe_unused]] const char* name, Read read) {
#ifdef SOFTSTAIR_BROWSER
  read();
#else
  try {
    read();
  } catch (const std::invalid_argument& error) {
    fail_bundle("The entry ", name, " of the bundle is not valid: ", error.what(), ".");
  }
#endif
}

// Integers of two rate points mixed: (v_i (16 - f) + v_{i+1} f + 8) >> 4.
std::vector<std::int32_t> interpolated(const std::vector<std::vector<std::int32_t>>& points, int position) {
  const auto point = static_cast<std::size_t>(position / kPositionsPerPoint);
  const int fraction = position % kPositionsPerPoint;
  const auto& low = points[point];
  const auto& high = points[std::min(point + 1, points.size() - 1)];
  std::vector<std::int32_t> mixed(low.size());
  for (std::size_t i = 0; i < low.size(); ++i)
    mixed[i] = static_cast<std::int32_t>((static_cast<std::int64_t>(low[i]) * (kPositionsPerPoint - fraction) + static_cast<std::int64_t>(high[i]) * fraction + 8) >> 4);
  return mixed;
}

std::vector<std::vector<std::int32_t>> rows_of(const Json& json) {
  std::vector<std::vector<std::int32_t>> rows;
  for (const Json& row : json.list()) {
    rows.push_back(row.numbers());
    need(rows.back().size() == rows.front().size(), "its lists have different lengths");
  }
  return rows;
}

const Array& array_of(const std::map<std::string, Array>& arrays, const std::string& name) {
  const auto found = arrays.find(name);
  if (found == arrays.end()) refuse("it has no tensor ", name);
  return found->second;
}

// A bias that depends on the rate, point by point.
std::vector<std::vector<std::int32_t>> biases_of(const Array& array, int points) {
  const std::vector<std::int32_t> flat = array.values<std::int32_t>("I32", 2);
  need(array.sizes[0] == points, "it has biases for other rate points than there are gains");
  std::vector<std::vector<std::int32_t>> biases;
  for (auto first = flat.begin(); first != flat.end(); first += array.sizes[1]) biases.emplace_back(first, first + array.sizes[1]);
  return biases;
}

}  // namespace

Bundle::Bundle(Bytes bytes) {
  const Entries entries = read_zip(bytes);
  check_names(entries);
  fingerprint_ = fingerprint_of(entries);
  reading("staircases.json", [&] { read_staircases(entries.at("staircases.json")); });
  reading("scale.safetensors", [&] { read_scale(entries.at("scale.safetensors")); });
  reading("tables.safetensors", [&] { read_tables(entries.at("tables.safetensors")); });
  if (entries.has(kContext)) reading(kContext, [&] { read_context(entries.at(kContext)); });
  read_networks(entries);
  reading("staircases.json", [&] {  // do the parts fit each other?
    for (int mode = 0; mode < static_cast<int>(kModes.size()); ++mode)
      if (has_mode(mode)) model(0, mode);
  });
}

void Bundle::read_staircases(Bytes bytes) {
  const Json json = Json::parse(text_of(bytes));
  for (const auto& [name, value] : json.object()) need(name == "gains" || name == "base" || name == "modes", "it has an unknown member");
  gains_ = rows_of(json.at("gains"));
  need(gains_.size() >= 2 && gains_.size() <= 17 && !gains_[0].empty(), "its gains are ragged or missing");
  for (const auto& row : gains_)
    for (const std::int32_t gain : row) need(std::abs(static_cast<std::int64_t>(gain)) <= kLargestGain, "it has gains beyond 32 octaves");
  const std::int64_t base = json.at("base").integer();
  need(std::abs(base) <= kLargestGain, "its table rows begin out of range");
  base_ = static_cast<int>(base);
  for (const auto& [name, entry] : json.at("modes").object()) {
    const auto known = std::find(kModes.begin(), kModes.end(), name);
    need(known != kModes.end(), "it has an unknown mode");
    Mode mode;
    for (const auto& [key, value] : entry.object()) need(key == "step" || key == "skip" || key == "levels", "a mode has an unknown member");
    const auto number = [&of = entry](const char* key, int low, int high) {
      const Json* found = of.find(key);
      const std::int64_t value = found == nullptr ? 0 : found->integer();
      need(value >= low && value <= high, "a mode has a number out of range");
      return static_cast<int>(value);
    };
    mode.step = number("step", -64, 64);
    mode.skip = number("skip", 0, 256);
    if (const Json* levels = entry.find("levels")) mode.levels = rows_of(*levels);
    need(mode.levels.empty() || mode.levels.size() == gains_.size(), "a mode has levels for other rate points");
    for (const auto& row : mode.levels)
      for (std::size_t i = 0; i < row.size(); ++i)
        need(row[i] >= (i == 0 ? 0 : row[i - 1]) + 2 && row[i] <= 64 * kLevelsPerStep, "levels do not rise from zero to 64 steps");
    modes_[static_cast<std::size_t>(known - kModes.begin())] = std::move(mode);
  }
  need(!json.at("modes").object().empty(), "it has no modes");
}

void Bundle::read_scale(Bytes bytes) {
  const auto arrays = read_safetensors(bytes);
  need(arrays.size() == 2 * kLayers.size() + 2, "it has other tensors than it should");
  ScaleNetwork::Layers layers;
  for (const std::string name : kLayers) {
    const Array& weight = array_of(arrays, name + ".weight");
    Weights weights{weight.values<std::int16_t>("I16", 4), array_of(arrays, name + ".bias").values<std::int32_t>("I32", 1), 0, 0, 0};
    for (const int side : weight.sizes) need(side <= 4096, "a layer has an impossible size");
    weights.outputs = weight.sizes[0];
    weights.inputs = weight.sizes[1];
    need(weight.sizes[2] <= 64 && weight.sizes[3] <= 64, "a layer has an impossible size");
    weights.taps = weight.sizes[2] * weight.sizes[3];
    layers.emplace(name, std::move(weights));
  }
  scale_ = std::make_shared<const ScaleNetwork>(layers, array_of(arrays, "phase_bias").values<std::int32_t>("I32", 2), true);
  rate_bias_ = biases_of(array_of(arrays, "rate_bias"), points());
}

// Context networks: docs/format/context.md. Either may be missing.
void Bundle::read_context(Bytes bytes) {
  const auto arrays = read_safetensors(bytes);
  const auto small = [&](const char* name, int dimensions) { return array_of(arrays, name).values<std::int16_t>("I16", dimensions); };
  const auto is = [&](const char* name, std::vector<int> sizes) {
    const auto& found = array_of(arrays, name).sizes;
    need(std::equal(found.begin(), found.end(), sizes.begin(), sizes.end()), "a tensor of it has the wrong shape");
  };
  std::size_t expected = 0;
  if (arrays.count("place.weight") != 0) {
    const int group = channels() / kPhases;
    // Older bundles see the same in all phases, and no means.
    const bool means = array_of(arrays, "place.near").sizes.size() == 4;
    PlaceNetwork::Parts parts{small("place.weight", 3), small("place.near", means ? 4 : 3), small("place.expected", 1),
                              small("place.gain", 1), small("place.bias", 1)};
    is("place.weight", {kPhases, group, group});
    if (means)
      is("place.near", {kPhases, kPhases, kNearPlaces + kMeans, group});
    else
      is("place.near", {kPhases, kNearPlaces, group});
    expected += 5;
    place_ = std::make_shared<const PlaceNetwork>(std::move(parts), true);
  }
  if (place_ && arrays.count("sign.weight") != 0) {
    const int group = place_->group();
    const auto weight = small("sign.weight", 3), near = small("sign.near", 4);
    is("sign.weight", {kPhases, group, group});
    is("sign.near", {kPhases, kPhases, kNearPlaces, group});
    const auto gain = small("sign.gain", 1);
    // Older bundles see half steps, and lean the same at all levels.
    std::vector<std::int16_t> unit(gain.size(), 1 << 13), growth(gain.size());
    if (arrays.count("sign.unit") != 0) {
      unit = small("sign.unit", 1);
      growth = small("sign.growth", 1);
      expected += 2;
    }
    signs_ = std::make_shared<const SignNetwork>(weight, near, gain, unit, growth, small("sign.skew", 1), true);
    expected += 4;
  }
  if (arrays.count("hyper.live") != 0) {
    HyperNetwork::Parts parts{array_of(arrays, "hyper.live").values<std::int32_t>("I32", 1), small("hyper.around", 3), small("hyper.before", 2),
                              small("hyper.head", 3), small("hyper.own", 3)};
    const int live = static_cast<int>(parts.live.size()), hidden = array_of(arrays, "hyper.before").sizes[0];
    is("hyper.around", {hidden, kAround, live});
    is("hyper.before", {hidden, live});
    is("hyper.head", {live, 2, hidden});
    is("hyper.own", {live, 2, kOwn});
    auto tables = std::make_shared<const Tables>(array_of(arrays, "hyper.cdf").values<std::uint16_t>("U16", 1),
                                                 array_of(arrays, "hyper.offsets").values<std::int32_t>("I32", 1));
    hyper_ = std::make_shared<const HyperNetwork>(std::move(parts), scale_->hyper_latents(), std::move(tables), true);
    hyper_rate_ = biases_of(array_of(arrays, "hyper.rate"), points());
    expected += 8;
  }
  need(expected > 0 && arrays.size() == expected, "it has other tensors than it should");
}

void Bundle::read_tables(Bytes bytes) {
  const auto arrays = read_safetensors(bytes);
  std::size_t expected = 2;
  for (std::size_t mode = 0; mode < kModes.size(); ++mode) {
    if (!modes_[mode]) continue;
    const std::string part = std::string("y.") + kModes[mode];
    modes_[mode]->tables = std::make_shared<const Tables>(array_of(arrays, part + ".cdf").values<std::uint16_t>("U16", 1),
                                                          array_of(arrays, part + ".offsets").values<std::int32_t>("I32", 1));
    expected += 2;
  }
  need(arrays.size() == expected, "it has other tensors than it should");
  const auto cdf = array_of(arrays, "z.cdf").values<std::uint16_t>("U16", 1);
  const auto offsets = array_of(arrays, "z.offsets").values<std::int32_t>("I32", 1);
  const auto channels = static_cast<std::size_t>(scale_->hyper_latents());
  need(offsets.size() == channels * points() + 1, "it needs a table of z for every rate point and channel");
  for (std::size_t point = 0; point < static_cast<std::size_t>(points()); ++point) {
    std::vector<std::int32_t> of_point(offsets.begin() + point * channels, offsets.begin() + (point + 1) * channels + 1);
    const std::int32_t first = of_point.front(), last = of_point.back();
    need(first >= 0 && last >= first && static_cast<std::size_t>(last) <= cdf.size(), "the offsets of z are out of range");
    for (std::int32_t& offset : of_point) offset -= first;
    z_tables_.push_back(std::make_shared<const Tables>(std::vector<std::uint16_t>(cdf.begin() + first, cdf.begin() + last), std::move(of_point)));
  }
}

void Bundle::read_networks(const Entries& entries) {
  const auto fits = [](bool holds, const char* name) {
    if (!holds) fail_bundle("The graph ", name, " of the bundle does not fit the others.");
  };
  mean_base_.emplace(read_graph(entries.at("mean_base.onnx"), "mean_base"), Network::Channels{{"z_hat", scale_->hyper_latents()}}, "mean_base");
  fits(mean_base_->factor() == 2, "mean_base");
  mean_.emplace(read_graph(entries.at("mean.onnx"), "mean"),
                Network::Channels{{"known", channels()}, {"base", mean_base_->outputs()}}, "mean");
  fits(mean_->factor() == 1 && mean_->outputs() == channels(), "mean");
  const auto picture = [&](std::optional<Network>& network, const std::string& name, const char* kind, int factor) {
    network.emplace(read_graph(entries.at(name), kind), Network::Channels{{"latents", channels()}}, kind);
    fits(network->factor() == factor && network->outputs() == 3, kind);
  };
  picture(synthesis_, "synthesis.onnx", "synthesis", kStride);
  if (entries.has(kPreview)) picture(preview_, kPreview, "preview", kStride / kPreviewDivisor);
  if (entries.has(kIcon)) {
    const int seen = kPhases * icon_group();
    icon_.emplace(read_graph(entries.at(kIcon), "icon"), Network::Channels{{"known", seen}, {"base", mean_base_->outputs()}}, "icon");
    fits(icon_->factor() == 1 && icon_->outputs() == seen + 3, "icon");
  }
  for (std::size_t mode = 0; mode < kModes.size(); ++mode)
    if (entries.has(synthesis_of(mode))) picture(own_[mode], synthesis_of(mode), "synthesis", kStride);
}

std::vector<std::int32_t> Bundle::exponent(int position, int mode) const {
  std::vector<std::int32_t> exponent = interpolated(gains_, position);
  for (std::int32_t& e : exponent) e += position - modes_[mode]->step;
  return exponent;
}

Model Bundle::model(int position, int mode, int layer) const {
  const Trellis& trellis = Trellis::of(kStatesOfModes[mode]);
  const Mode& of = *modes_[mode];
  const int rows = of.tables->rows() / (trellis.dependent() ? 2 : 1);
  const int point = std::min((position + kPositionsPerPoint / 2) / kPositionsPerPoint, points() - 1);
  // Made for every reader, in pages for the first: at once for all modes, it would be a tenth of the time that opening takes.
  std::shared_ptr<const Tables> leaning = of.leaning;
  if (signs_ && !leaning) leaning = std::make_shared<const Tables>(signs_->leaning(*of.tables));
#ifdef SOFTSTAIR_BROWSER
  of.leaning = leaning;
#endif
  Model model{scale_, z_tables_[point], &trellis, of.tables, {base_, of.skip, rows}, interpolated(rate_bias_, position + kPositionsPerLayer * layer), exponent(position, mode), place_, hyper_,
              hyper_ ? interpolated(hyper_rate_, position) : std::vector<std::int32_t>{}, signs_, leaning};
  for (std::int32_t& e : model.exponent) e += kPositionsPerLayer * layer;
  model.check();
  return model;
}

std::vector<float> Bundle::steps(int position, int mode) const {
  std::vector<float> steps;
  for (const std::int32_t e : exponent(position, mode)) steps.push_back(1.0f / static_cast<float>(power_of_two(e)));
  return steps;
}

std::vector<float> Bundle::levels(int position, int mode) const {
  const auto& at_points = modes_[mode]->levels;
  if (at_points.empty()) return {};
  std::vector<float> levels = {0};
  for (const std::int32_t level : interpolated(at_points, position)) levels.push_back(static_cast<float>(level) / kLevelsPerStep);
  return levels;
}

std::vector<float> Bundle::hat(int position) const {
  std::vector<float> weights;
  for (int point = 0; point < points(); ++point)
    weights.push_back(static_cast<float>(std::max(0.0, 1.0 - std::abs(position - kPositionsPerPoint * point) / 16.0)));
  return weights;
}

}  // namespace softstair
