// SPDX-License-Identifier: Apache-2.0
// From the payload of a tile to its latents, y^.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "stream.hpp"
#include "tensor.hpp"

namespace softstair {

constexpr int kMirrored = 2;  // positions of y^, and of z^, that the mean network is shown beyond a tile
// Bytes a latent that a tile takes beside the mean network: symbols, the scale network's fields.
constexpr std::uint64_t kSymbolBytes = 12;

class TileReader {
 public:
  TileReader(const Bundle& bundle, const Stream& stream);

  // All symbols of a tile. Throws Error if its payload is not what an encoder wrote.
  Symbols symbols(int index) const;
  // How many rows of latents the bytes tell of, of a tile that they end in.
  int rows_begun(int index) const;
  // y^ of a tile; zero if it has no learned part. Throws Error as `symbols` does.
  Tensor latents(int index) const;
  // The same, or nothing where that would throw.
  std::optional<Tensor> latents_if_whole(int index) const;
  // y^ of a tile that the bytes end in; zero where nothing was read.
  Tensor latents_begun(int index) const;
  Tensor no_latents(int index) const;
  // Means of 16 x 16 pixels of a tile, without its means; in layers of the first. Throws Error as `symbols` does.
  Tensor icon(int index) const;

  // What the synthesis is given: the rate of the last layer that is there.
  const std::vector<float>& hat() const { return synthesis_hat_; }

 private:
  // On which sides a tile ends where the picture goes on, as margins of positions.
  struct Margins {
    int top, left, bottom, right;

    bool any() const { return top + left + bottom + right > 0; }
  };

  Size size_of(int index) const;
  Margins margins_of(int index) const;
  bool has_none(int index) const;
  // Reads a tile; with layers, symbols are those of the last one that is there.
  Fault read(int index, Symbols& symbols) const;
  static void check(Fault fault, int index);
  // As many rows as were begun, and their symbols; those of y are 0 where nothing was read.
  Symbols begun(int index, int& rows) const;
  // layer: that symbols are of, from 0.
  Tensor reconstructed(const Symbols& symbols, Size size, const Margins& margins, int layer) const;
  void refine(const std::vector<std::int16_t>& symbols, const std::vector<std::int16_t>& first, int layer, Tensor& decoded) const;
  // What a network, mean or icon, is given of z^.
  Tensor base(const Network& network, const std::vector<std::int16_t>& z, Size size, const Margins& m) const;
  // Phase kPhases comes after the last one.
  Tensor mean(const Network& network, const Tensor& decoded, const Tensor& base, int phase, const Margins& m) const;
  void place(int phase, const std::vector<std::int16_t>& symbols, const std::vector<float>& steps, const Tensor& mean, const Margins& m, Tensor& decoded) const;

  const Bundle& bundle_;
  const Stream& stream_;
  // Of every layer that is there; the first is that of a stream without layers.
  std::vector<Model> models_;
  std::vector<float> steps_, levels_, hat_, synthesis_hat_;
};

}  // namespace softstair
