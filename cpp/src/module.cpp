// SPDX-License-Identifier: Apache-2.0
// The Python face of the core: arrays in, arrays out, shapes checked here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <cstdlib>  // defines __GLIBC__ where it is
#include <memory>
#include <string>
#include <tuple>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "jpeg_check.hpp"
#include "pixels.hpp"
#include "refinement.hpp"
#include "spread.hpp"
#include "tile_encoder.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace softstair;

namespace {

template <typename T, int kDims>
using In = nb::ndarray<const T, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;
template <typename T, int kDims>
using InOut = nb::ndarray<T, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;

template <typename T>
nb::object to_array(std::vector<T> values, std::initializer_list<std::size_t> shape) {
  auto* owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), shape, owner));
}

template <typename Array>
auto to_span(const Array& array) {
  return std::span(array.data(), array.size());
}

std::span<const std::uint8_t> to_span(const nb::bytes& data) {
  return {static_cast<const std::uint8_t*>(data.data()), data.size()};
}

template <typename Array>
auto to_vector(const Array& array) {
  return std::vector(array.data(), array.data() + array.size());
}

nb::bytes to_bytes(const std::vector<std::uint8_t>& values) { return nb::bytes(values.data(), values.size()); }

// What work gives, done while other threads of Python run.
template <typename Work>
auto released(Work work) {
  nb::gil_scoped_release release;
  return work();
}

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

using Places = std::array<In<float, 3>, kPhases>;

// Numbers by class of places, (channels, rows, columns) each, of which those before `top` and `left` do not count.
MeansOfPhase at_places(const Places& parts, std::size_t channels, Size size, int top, int left) {
  MeansOfPhase all;
  for (int place = 0; place < kPhases; ++place) {
    const auto& part = parts[place];
    const int rows = (size.height + 1 - place / 2) / 2, columns = (size.width + 1 - place % 2) / 2;
    require(top >= 0 && left >= 0 && part.shape(0) == channels && part.shape(1) >= static_cast<std::size_t>(top + rows) &&
                part.shape(2) >= static_cast<std::size_t>(left + columns),
            "there is not a number for every place");
    const auto line = static_cast<std::ptrdiff_t>(part.shape(2)), plane = static_cast<std::ptrdiff_t>(part.shape(1)) * line;
    all[place] = {part.data() + top * line + left, plane, line, 1};
  }
  return all;
}

void release_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void throw_if(Fault fault) {
  if (fault == Fault::truncated) throw nb::value_error("truncated");
  if (fault == Fault::corrupt) throw nb::value_error("corrupt");
}

// dict of name -> (int16 (out, in, kh, kw), int32 (out,))
ScaleNetwork::Layers read_layers(const nb::dict& dict) {
  ScaleNetwork::Layers layers;
  for (const auto& [key, value] : dict) {
    const auto [weight, bias] = nb::cast<std::pair<In<std::int16_t, 4>, In<std::int32_t, 1>>>(value);
    const auto limit = [](std::size_t n) {
      require(n > 0 && n <= 4096, "a layer has an impossible size");
      return static_cast<int>(n);
    };
    Weights w{to_vector(weight),
              to_vector(bias),
              limit(weight.shape(0)),
              limit(weight.shape(1)),
              limit(weight.shape(2) * weight.shape(3))};
    layers.emplace(nb::cast<std::string>(key), std::move(w));
  }
  return layers;
}

// Symbols (height, width, C).
template <typename T>
nb::object to_array(std::vector<T> values, Size size, std::size_t channels) {
  return to_array(std::move(values), {static_cast<std::size_t>(size.height), static_cast<std::size_t>(size.width), channels});
}

Size make_size(std::size_t height, std::size_t width) {
  require(height > 0 && width > 0 && height <= 65536 && width <= 65536, "impossible size");
  return {static_cast<int>(height), static_cast<int>(width)};
}

Staircase make_staircase(float rate_weight, const In<float, 1>& grid, int behind = 0) {
  require(behind >= 0 && behind < kMostLayers, "there are at most four layers");
  require(rate_weight >= 0 && rate_weight < 1e6f, "the rate weight is impossible");
  for (std::size_t i = 0; i < grid.size(); ++i)
    require(i == 0 ? grid.data()[0] == 0 : grid.data()[i] > grid.data()[i - 1],
            "a fine grid rises from zero");
  return {rate_weight, to_span(grid), behind};
}

// Layers of a tile, and what they are read into.
struct PyLayers {
  PyLayers(const Model& model, Size size, std::vector<std::int16_t> z, std::vector<std::int16_t> levels)
      : size(size), symbols{std::move(z), std::move(levels)}, reader(*model.y_tables, size, symbols.z, symbols.y) {}
  PyLayers(const PyLayers&) = delete;
  PyLayers& operator=(const PyLayers&) = delete;

  Size size;
  Symbols symbols;
  LayerReader reader;
};

void require_z(const Model& model, const In<std::int16_t, 3>& z, Size size) {
  require(z.shape(0) == static_cast<std::size_t>(size.z_height()) &&
              z.shape(1) == static_cast<std::size_t>(size.z_width()) &&
              z.shape(2) == static_cast<std::size_t>(model.network->hyper_latents()),
          "z does not have the shape that belongs to y");
}

void check_planes(const TileEncoder& tile, const In<float, 3>& planes) {
  require(planes.shape(0) == static_cast<std::size_t>(tile.channels()) &&
              planes.shape(1) == static_cast<std::size_t>(tile.size().height) &&
              planes.shape(2) == static_cast<std::size_t>(tile.size().width),
          "planes do not have the shape of y");
}

}  // namespace

NB_MODULE(_core, m) {
  // Opened bundles are cached until the process ends; nanobind would report each as a leak.
  nb::set_leak_warnings(false);
  m.doc() = "Entropy coding and the integer scale network. Everything here is exact.";
  m.attr("IN_CELL") = kInCell;
  m.attr("IN_LAST_CELL") = kInLastCell;
  m.attr("MOST_SMOOTHING") = kMostSmoothing;
  m.def("simd_available", &simd_available, "True if vector kernels are built in and usable here.");
  m.def(
      "release_memory", &release_memory, nb::call_guard<nb::gil_scoped_release>(),
      "Give back to the system what is free, where its allocator would keep it (glibc).");

  m.def(
      "to_pixels",
      [](const nb::ndarray<const float, nb::ndim<3>, nb::device::cpu>& planes, std::size_t height, std::size_t width,
         int smoothing) {
        require(planes.shape(0) == 3, "planes are red, green and blue");
        require(height > 0 && width > 0 && height <= planes.shape(1) && width <= planes.shape(2),
                "pixels lie outside the planes");
        require(smoothing >= 0 && smoothing <= kMostSmoothing, "the smoothing is impossible");
        const Size whole = make_size(planes.shape(1), planes.shape(2));
        const Colours colours{planes.data(), whole.height, whole.width, planes.stride(1), planes.stride(2), planes.stride(0)};
        std::vector<std::uint8_t> pixels(3 * height * width);
        const Part part{0, 0, static_cast<int>(height), static_cast<int>(width)};
        released([&] { to_pixels(colours, part, smoothing, pixels.data()); });
        return to_array(std::move(pixels), {height, width, 3});
      },
      "planes"_a, "height"_a, "width"_a, "smoothing"_a);

  m.def(
      "spread",
      [](const In<float, 3>& block, std::size_t top, std::size_t left, std::size_t height, std::size_t width, int factor,
         bool adds, InOut<float, 3> plane, std::size_t row, std::size_t column) {
        const std::size_t channels = plane.shape(2), side = static_cast<std::size_t>(factor);
        const auto inside = [](std::size_t first, std::size_t count, std::size_t all) { return first <= all && count <= all - first; };
        require(factor >= 1 && factor <= 64 && block.shape(2) == side * side * channels, "patches do not fit the plane");
        require(inside(top, height, block.shape(0)) && inside(left, width, block.shape(1)), "there are no such patches");
        require(row % side == 0 && column % side == 0 && inside(row / side, height, plane.shape(0) / side) &&
                    inside(column / side, width, plane.shape(1) / side),
                "patches lie outside the plane");
        const Size size = make_size(height, width);
        const auto place = static_cast<std::ptrdiff_t>(block.shape(2)), line = static_cast<std::ptrdiff_t>(block.shape(1)) * place;
        const auto plane_row = static_cast<std::ptrdiff_t>(plane.shape(1) * channels);
        const Patches patches{block.data() + static_cast<std::ptrdiff_t>(top) * line + static_cast<std::ptrdiff_t>(left) * place,
                              line, size.height, size.width};
        float* const first = plane.data() + static_cast<std::ptrdiff_t>(row) * plane_row + static_cast<std::ptrdiff_t>(column * channels);
        released([&] { spread(patches, factor, static_cast<int>(channels), adds, first, plane_row); });
      },
      "block"_a, "top"_a, "left"_a, "height"_a, "width"_a, "factor"_a, "adds"_a, "plane"_a, "row"_a, "column"_a,
      "Put or add patches of a block (rows, columns, factor * factor * C) where they lie on a plane (H, W, C).");

  m.def(
      "jpeg_is_damaged",
      [](nb::bytes data) {
        const auto bytes = to_span(data);
        return released([&] { return check_jpeg(bytes) == JpegHealth::damaged; });
      },
      "data"_a, "True if Huffman codes of a JPEG file are not what its headers announce.");

  nb::class_<Tables>(m, "Tables", "A set of integer CDFs, one row after the other.")
      .def("leaning", [](const Tables& self, const SignNetwork& signs) { return std::make_shared<Tables>(signs.leaning(self)); },
           "signs"_a, "The same, and after every row one for each lean of signs. Raises ValueError if those have other rows.")
      .def(
          "__init__",
          [](Tables* self, In<std::uint16_t, 1> cdf, In<std::int32_t, 1> offsets) {
            new (self) Tables(to_vector(cdf), to_vector(offsets));
          },
          "cdf"_a, "offsets"_a, "Raises ValueError unless every row runs strictly from 0 to 2**14.")
      .def_prop_ro("rows", &Tables::rows)
      .def(
          "encode",
          [](const Tables& self, In<std::int16_t, 1> rows, In<std::int16_t, 1> symbols, int lanes) {
            return to_bytes(encode_rows(self, to_span(rows), to_span(symbols), lanes));
          },
          "rows"_a, "symbols"_a, "lanes"_a, "Code symbols, int16 (n,), each by its row, int16 (n,).")
      .def(
          "decode",
          [](const Tables& self, nb::bytes data, In<std::int16_t, 1> rows, int lanes) {
            std::vector<std::int16_t> symbols;
            throw_if(decode_rows(self, to_span(rows), to_span(data), lanes, symbols));
            return to_array(std::move(symbols), {rows.size()});
          },
          "data"_a, "rows"_a, "lanes"_a,
          "The symbols again, int16 (n,). Raises ValueError 'truncated' or 'corrupt'.");

  nb::class_<ScaleNetwork>(m, "ScaleNetwork", "Integer weights, shared by all pictures.")
      .def(
          "__init__",
          [](ScaleNetwork* self, nb::dict layers, In<std::int32_t, 1> phase_bias, bool simd) {
            new (self) ScaleNetwork(read_layers(layers), to_vector(phase_bias), simd);
          },
          "layers"_a, "phase_bias"_a, "simd"_a = true,
          "Raises ValueError if a layer is missing, misshapen or could overflow int32.");

  nb::class_<PlaceNetwork>(m, "PlaceNetwork", "What latents of a place say of others of the same phase there.")
      .def(
          "__init__",
          [](PlaceNetwork* self, In<std::int16_t, 3> weight, In<std::int16_t, 4> near, In<std::int16_t, 1> expected,
             In<std::int16_t, 1> gain, In<std::int16_t, 1> bias, bool simd) {
            require(near.shape(0) == weight.shape(0) && near.shape(1) == weight.shape(0) && near.shape(2) == kNearPlaces + kMeans &&
                        near.shape(3) == weight.shape(1) && weight.shape(1) == weight.shape(2),
                    "the context of a place has the wrong shape");
            new (self) PlaceNetwork({to_vector(weight), to_vector(near), to_vector(expected), to_vector(gain), to_vector(bias)}, simd);
          },
          "weight"_a, "near"_a, "expected"_a, "gain"_a, "bias"_a, "simd"_a = true,
          "Raises ValueError if anything is misshapen, looks ahead or could overflow int32.");

  nb::class_<SignNetwork>(m, "SignNetwork", "Which sign latents of a place lean to.")
      .def(
          "__init__",
          [](SignNetwork* self, In<std::int16_t, 3> weight, In<std::int16_t, 4> near, In<std::int16_t, 1> gain,
             In<std::int16_t, 1> unit, In<std::int16_t, 1> growth, In<std::int16_t, 1> skew, bool simd) {
            require(near.shape(0) == weight.shape(0) && near.shape(1) == weight.shape(0) && near.shape(2) == kNearPlaces &&
                        near.shape(3) == weight.shape(1) && weight.shape(1) == weight.shape(2),
                    "the context of signs has the wrong shape");
            new (self) SignNetwork(to_vector(weight), to_vector(near), to_vector(gain), to_vector(unit),
                                   to_vector(growth), to_vector(skew), simd);
          },
          "weight"_a, "near"_a, "gain"_a, "unit"_a, "growth"_a, "skew"_a, "simd"_a = true,
          "Raises ValueError if anything is misshapen, looks ahead or could overflow int32.");

  nb::class_<HyperNetwork>(m, "HyperNetwork", "Mean and scale of every z from what was read before.")
      .def(
          "__init__",
          [](HyperNetwork* self, int channels, In<std::int32_t, 1> live, In<std::int16_t, 3> around,
             In<std::int16_t, 2> before, In<std::int16_t, 3> head, In<std::int16_t, 3> own,
             std::shared_ptr<Tables> tables, bool simd) {
            require(channels > 0 && channels <= 4096 && around.shape(0) == before.shape(0) && around.shape(1) == kAround &&
                        around.shape(2) == live.size() && before.shape(1) == live.size() &&
                        head.shape(0) == live.size() && head.shape(1) == 2 && head.shape(2) == before.shape(0) &&
                        own.shape(0) == live.size() && own.shape(1) == 2 && own.shape(2) == kOwn,
                    "the context of z has the wrong shape");
            HyperNetwork::Parts parts{to_vector(live), to_vector(around), to_vector(before), to_vector(head),
                                      to_vector(own)};
            new (self) HyperNetwork(std::move(parts), channels, std::move(tables), simd);
          },
          "channels"_a, "live"_a, "around"_a, "before"_a, "head"_a, "own"_a, "tables"_a, "simd"_a = true,
          "Raises ValueError if anything is misshapen or could overflow int32.")
      .def(
          "rows",
          [](const HyperNetwork& self, In<std::int16_t, 3> z, In<std::int32_t, 1> rate) {
            require(z.shape(2) == static_cast<std::size_t>(self.channels()) && rate.size() == self.rate_size(),
                    "z does not fit its context");
            const std::vector<std::int32_t> bias = to_vector(rate);
            HyperPlace place(self, bias);
            const auto n = static_cast<std::size_t>(self.live());
            std::vector<std::int16_t> rows, levels;
            for (std::size_t y = 0; y < z.shape(0); ++y)
              for (std::size_t x = 0; x < z.shape(1); ++x) {
                place.begin(z.data(), static_cast<int>(y), static_cast<int>(x), static_cast<int>(z.shape(1)));
                const std::int16_t* here = z.data() + (y * z.shape(1) + x) * z.shape(2);
                for (int c = 0; c < self.channels(); ++c) {
                  const int number = self.live_number(c);
                  if (number < 0) continue;
                  const HyperRow at = place.row(number);
                  rows.push_back(static_cast<std::int16_t>(at.row));
                  levels.push_back(static_cast<std::int16_t>(here[c] - at.base));
                  place.see(number, here[c]);
                }
              }
            return nb::make_tuple(to_array(std::move(rows), {z.shape(0), z.shape(1), n}),
                                  to_array(std::move(levels), {z.shape(0), z.shape(1), n}));
          },
          "z"_a, "rate"_a, "Table rows of the live channels of z (h, w, Z) and what is coded with them, int16 (h, w, n).");

  nb::class_<Model>(m, "Model", "All that decides how the symbols of one rate position are read.")
      .def(
          "__init__",
          [](Model* self, std::shared_ptr<ScaleNetwork> network, std::shared_ptr<Tables> z_tables,
             std::shared_ptr<Tables> y_tables, int base, int skip, In<std::int32_t, 1> rate_bias,
             In<std::int32_t, 1> exponent, int states, std::shared_ptr<PlaceNetwork> place,
             std::shared_ptr<HyperNetwork> hyper, std::optional<In<std::int32_t, 1>> hyper_rate,
             std::shared_ptr<SignNetwork> signs, std::shared_ptr<Tables> leaning) {
            const Trellis& trellis = Trellis::of(states);
            const int rows = y_tables->rows() / (trellis.dependent() ? 2 : 1);
            Model model{std::move(network), std::move(z_tables), &trellis, std::move(y_tables),
                        {base, skip, rows}, to_vector(rate_bias), to_vector(exponent),
                        std::move(place), std::move(hyper),
                        hyper_rate ? to_vector(*hyper_rate) : std::vector<std::int32_t>{},
                        std::move(signs), std::move(leaning)};
            model.check();
            new (self) Model(std::move(model));
          },
          "network"_a, "z_tables"_a, "y_tables"_a, "base"_a, "skip"_a, "rate_bias"_a, "exponent"_a,
          "states"_a = 1, "place"_a = nb::none(), "hyper"_a = nb::none(), "hyper_rate"_a = nb::none(),
          "signs"_a = nb::none(), "leaning"_a = nb::none(),
          "states: of the trellis; 1 is scalar quantization. place, hyper, signs: context networks, or None; leaning:\n"
          "y_tables as signs need them.")
      .def(
          "log_scale",
          [](const Model& self, In<std::int16_t, 3> z, std::size_t height, std::size_t width) {
            const Size size = make_size(height, width);
            require_z(self, z, size);
            ScaleField field(self.network, z.data(), size.height, size.width,
                             self.rate_bias.data(), self.exponent.data());
            return to_array(std::move(field).log_scale(), size, self.network->latents());
          },
          "z"_a, "height"_a, "width"_a, "s(z^), int16 (height, width, C), 1/32 octave.")
      .def(
          "decode",
          [](const Model& self, nb::bytes data, std::size_t height, std::size_t width) {
            const Size size = make_size(height, width);
            const auto bytes = to_span(data);
            Decoded decoded = released([&] { return decode_symbols(self, size, bytes); });
            throw_if(decoded.fault);
            const auto zc = static_cast<std::size_t>(self.network->hyper_latents());
            return nb::make_tuple(
                to_array(std::move(decoded.symbols.z), {static_cast<std::size_t>(size.z_height()),
                                                        static_cast<std::size_t>(size.z_width()), zc}),
                to_array(std::move(decoded.symbols.y), size, self.network->latents()));
          },
          "data"_a, "height"_a, "width"_a,
          "Symbols (z, y), int16, (h, w, channels). Raises ValueError 'truncated' or 'corrupt'.");

  nb::class_<TileDecoder>(m, "TileDecoder", "Reads the symbols of a tile phase by phase.")
      .def(
          "__init__",
          [](TileDecoder* self, const Model& model, nb::bytes data, std::size_t height,
             std::size_t width, bool layered) {
            const Size size = make_size(height, width);
            new (self) TileDecoder(model, size, to_span(data), layered);
            const Fault fault = self->fault();
            if (fault != Fault::none) self->~TileDecoder();
            throw_if(fault);
          },
          "model"_a, "data"_a, "height"_a, "width"_a, "layered"_a = false, nb::keep_alive<1, 2>(),
          "Reads z. layered: others may follow this layer. Raises ValueError 'truncated' or 'corrupt'.")
      .def(
          "read_phase",
          [](TileDecoder& self) {
            released([&] { self.read_phase(); });
            throw_if(self.fault());
          },
          "Read the next phase; with the last, the stream must end. Raises ValueError 'truncated' or\n"
          "'corrupt'.")
      .def(
          "__init__",
          [](TileDecoder* self, const Model& model, std::size_t height, std::size_t width) {
            new (self) TileDecoder(model, make_size(height, width));
          },
          "model"_a, "height"_a, "width"_a, nb::keep_alive<1, 2>(),
          "Has no bytes yet: they are appended, as far as there are any.")
      .def(
          "append",
          [](TileDecoder& self, nb::bytes data) {
            const auto bytes = to_span(data);
            released([&] { self.append(bytes); });
            throw_if(self.fault());
          },
          "data"_a,
          "Read on, as far as whole lines of positions reach; unverified. Raises ValueError 'corrupt'.")
      .def_prop_ro(
          "z",
          [](const TileDecoder& self) {
            return nb::ndarray<nb::numpy, const std::int16_t>(
                self.symbols().z.data(),
                {static_cast<std::size_t>(self.z_lines()),
                 static_cast<std::size_t>(self.size().z_width()), self.z_channels()});
          },
          nb::rv_policy::reference_internal, "Symbols of z, int16 (h, w, Z): as many lines as were read.")
      .def_prop_ro(
          "y",
          [](const TileDecoder& self) {
            const auto height = static_cast<std::size_t>(self.size().height);
            return nb::ndarray<nb::numpy, const std::int16_t>(
                self.symbols().y.data(), {self.symbols().y.empty() ? 0 : height,
                                          static_cast<std::size_t>(self.size().width), self.channels()});
          },
          nb::rv_policy::reference_internal,
          "Symbols of y, int16 (height, width, C): zero where they were not read yet; no lines before all\n"
          "of z was read. The array fills up.")
      .def_prop_ro("bytes_read", &TileDecoder::bytes_read, "Bytes that the symbols read so far need.")
      .def_prop_ro("y_lines", &TileDecoder::y_lines,
                   "Lines of y that were read; those of a phase follow those of the one before.");

  nb::class_<TileEncoder>(m, "TileEncoder", "Decides and codes the symbols of a tile phase by phase.")
      .def(
          "__init__",
          [](TileEncoder* self, std::shared_ptr<Model> model, In<std::int16_t, 3> z,
             std::size_t height, std::size_t width) {
            const Size size = make_size(height, width);
            require_z(*model, z, size);
            released([&] { new (self) TileEncoder(std::move(model), size, to_span(z)); });
          },
          "model"_a, "z"_a, "height"_a, "width"_a)
      .def(
          "begin_phase",
          [](TileEncoder& self) {
            std::vector<std::int16_t> rows = released([&] { return self.begin_phase(); });
            return to_array(std::move(rows), self.size(), self.channels() / kPhases);
          },
          "Table rows of the next phase, int16 (height, width, C / 4); -1 where nothing is coded.")
      .def(
          "quantize",
          [](TileEncoder& self, In<float, 3> y, In<float, 3> mean, In<float, 1> gain,
             float rate_weight, In<float, 1> grid, InOut<float, 3> decoded, int behind, bool with_context) {
            check_planes(self, y);
            check_planes(self, mean);
            check_planes(self, In<float, 3>(decoded));
            const auto channels = static_cast<std::size_t>(self.channels());
            require(gain.size() == channels, "gain has the wrong size");
            const Staircase staircase = make_staircase(rate_weight, grid, behind);
            released([&] { self.quantize(y.data(), mean.data(), gain.data(), staircase, decoded.data(), with_context); });
          },
          "y"_a, "mean"_a, "gain"_a, "rate_weight"_a, "grid"_a, "decoded"_a, "behind"_a = 0, "with_context"_a = false,
          "Quantize (y - mean) * gain for the phase begun and write mean + value / gain to\n"
          "`decoded`, planes float32 (C, height, width). rate_weight: squared steps a bit; grid: the\n"
          "fine grid in steps, or empty. behind: layers that will split the cells. with_context: bits are\n"
          "counted by rows as the context of a place is likely to correct them.")
      .def(
          "put",
          [](TileEncoder& self, In<std::int16_t, 3> symbols) {
            require(symbols.shape(0) == static_cast<std::size_t>(self.size().height) &&
                        symbols.shape(1) == static_cast<std::size_t>(self.size().width) &&
                        symbols.shape(2) == static_cast<std::size_t>(self.channels()),
                    "symbols do not have the shape of y");
            self.put(symbols.data());
          },
          "symbols"_a, "Use given symbols, int16 (height, width, C), for the phase begun.")
      .def(
          "finish",
          [](const TileEncoder& self) { return to_bytes(released([&] { return self.finish(); })); },
          "The coded stream.")
      .def("cross_entropy", &TileEncoder::cross_entropy, "Bits that the tables alone charge: (z, y).")
      .def_prop_ro(
          "coded",
          [](const TileEncoder& self) {
            auto [rows, levels] = self.coded();
            const std::size_t count = rows.size();
            return nb::make_tuple(to_array(std::move(rows), {count}),
                                  to_array(std::move(levels), {count}));
          },
          "Table rows and levels of all coded latents, int16 (n,) each, in coding order.")
      .def_prop_ro(
          "symbols",
          [](const TileEncoder& self) { return to_array(self.symbols(), self.size(), self.channels()); },
          "Symbols decided so far, int16 (height, width, C).");

  nb::class_<PyLayers>(m, "LayerReader", "Reads layers of a tile behind the first.")
      .def(
          "__init__",
          [](PyLayers* self, const Model& model, In<std::int16_t, 3> z, In<std::int16_t, 3> levels) {
            const Size size = make_size(levels.shape(0), levels.shape(1));
            require(levels.shape(2) == static_cast<std::size_t>(model.network->latents()), "levels do not have the shape of y");
            require_z(model, z, size);
            new (self) PyLayers(model, size, to_vector(z), to_vector(levels));
          },
          "model"_a, "z"_a, "levels"_a, "levels: of the first layer, int16 (height, width, C).")
      .def(
          "read",
          [](PyLayers& self, const Model& model, nb::bytes data) {
            std::size_t read = 0;
            const auto bytes = to_span(data);
            throw_if(released([&] { return self.reader.read(model, bytes, read); }));
            return read;
          },
          "model"_a, "data"_a,
          "Read the next layer; how many bytes it took. model: at its steps. Raises ValueError 'truncated' or\n"
          "'corrupt'.")
      .def_prop_ro(
          "levels",
          [](const PyLayers& self) {
            return to_array(self.symbols.y, self.size, self.symbols.y.size() / self.size.height / self.size.width);
          },
          "Levels of the last layer, int16 (height, width, C).");

  nb::class_<LayerWriter>(m, "LayerWriter", "Decides and codes layers of a tile behind the first.")
      .def(
          "__init__",
          [](LayerWriter* self, const Model& model, In<std::int16_t, 3> z, In<std::int16_t, 3> levels, In<float, 3> residual) {
            const Size size = make_size(levels.shape(0), levels.shape(1));
            require(levels.shape(2) == static_cast<std::size_t>(model.network->latents()) && residual.shape(0) == levels.shape(2) &&
                        residual.shape(1) == levels.shape(0) && residual.shape(2) == levels.shape(1),
                    "planes do not have the shape of y");
            require_z(model, z, size);
            new (self) LayerWriter(*model.y_tables, size, to_span(z), to_span(levels), to_span(residual));
          },
          "model"_a, "z"_a, "levels"_a, "residual"_a,
          "levels: of the first layer, int16 (height, width, C). residual: what is quantized, float32\n"
          "(C, height, width), in its steps.")
      .def(
          "write",
          [](LayerWriter& self, const Model& model, int behind, float rate_weight) {
            return to_bytes(released([&] { return self.write(model, behind, rate_weight); }));
          },
          "model"_a, "behind"_a, "rate_weight"_a,
          "The next layer. model: at its steps. behind: how many layers come after it.")
      .def_prop_ro("bits", &LayerWriter::bits, "What the shares of the last layer alone charged.")
      .def_prop_ro(
          "levels",
          [](const LayerWriter& self) {
            return to_array(self.levels(), self.size(), self.levels().size() / self.size().height / self.size().width);
          },
          "Levels of the last layer, int16 (height, width, C).");

  m.def(
      "search",
      [](int states, const Tables& tables, In<float, 1> residual, In<std::int16_t, 1> rows,
         float rate_weight, In<float, 1> grid, int lanes, bool simd) {
        const Trellis& trellis = Trellis::of(states);
        const int rows_of_each = tables.rows() / (trellis.dependent() ? 2 : 1);
        require(lanes == 1 || lanes == 2 || lanes == kMaxLanes, "lanes must be 1, 2 or 4");
        require(rows.size() == residual.size(), "every residual needs a row");
        for (std::size_t i = 0; i < rows.size(); ++i)
          require(rows.data()[i] >= 0 && rows.data()[i] < rows_of_each, "a row is not in the tables");
        std::vector<std::int16_t> levels(residual.size());
        search(trellis, tables, make_staircase(rate_weight, grid), to_span(residual), to_span(rows), lanes, simd,
               levels.data());
        return to_array(std::move(levels), {residual.size()});
      },
      "states"_a, "tables"_a, "residual"_a, "rows"_a, "rate_weight"_a, "grid"_a,
      "lanes"_a, "simd"_a = true, "Levels, int16 (n,), of residuals in steps, float32 (n,).");
  m.def(
      "follow",
      [](int states, In<std::int16_t, 1> levels, int lanes) {
        const Trellis& trellis = Trellis::of(states);
        require(lanes == 1 || lanes == 2 || lanes == kMaxLanes, "lanes must be 1, 2 or 4");
        std::vector<std::int16_t> quantizers(levels.size());
        int state[kMaxLanes] = {};
        for (std::size_t i = 0; i < levels.size(); ++i) {
          int& s = state[i % lanes];
          quantizers[i] = static_cast<std::int16_t>(quantizer_of(s));
          s = trellis.next(s, levels.data()[i]);
        }
        return to_array(std::move(quantizers), {levels.size()});
      },
      "states"_a, "levels"_a, "lanes"_a, "Quantizer, 0 or 1, of every level, int16 (n,).");
  m.def(
      "reconstruct_phase",
      [](int phase, In<std::int16_t, 3> symbols, int states, In<float, 1> grid, In<float, 3> mean,
         In<float, 1> step, InOut<float, 3> decoded) {
        const std::size_t height = symbols.shape(0), width = symbols.shape(1), c = symbols.shape(2);
        const auto fits = [&](const auto& planes) {
          return planes.shape(0) == c && planes.shape(1) == height && planes.shape(2) == width;
        };
        require(phase >= 0 && phase < kPhases, "phase out of range");
        require(fits(mean) && fits(decoded) && step.size() == c && c % kPhases == 0,
                "planes do not have the shape of the symbols");
        const Staircase staircase = make_staircase(0, grid);
        const bool fine = Trellis::of(states).dependent();
        nb::gil_scoped_release release;
        reconstruct_phase(phase, make_size(height, width), static_cast<int>(c), symbols.data(), fine,
                          staircase, mean.data(), step.data(), decoded.data());
      },
      "phase"_a, "symbols"_a, "states"_a, "grid"_a, "mean"_a, "step"_a, "decoded"_a,
      "Write mean + value * step of one phase into `decoded`, all (C, height, width) but the symbols. The means\n"
      "may lie in `decoded` itself.");
  m.def(
      "reconstruct_places",
      [](int phase, In<std::int16_t, 3> symbols, int states, In<float, 1> grid, const Places& means, int top, int left,
         In<float, 1> step, InOut<float, 3> decoded) {
        const std::size_t height = symbols.shape(0), width = symbols.shape(1), c = symbols.shape(2);
        require(phase >= 0 && phase < kPhases, "phase out of range");
        require(decoded.shape(0) == c && decoded.shape(1) == height && decoded.shape(2) == width && step.size() == c &&
                    c % kPhases == 0,
                "planes do not have the shape of the symbols");
        const Size size = make_size(height, width);
        const MeansOfPhase all = at_places(means, c / kPhases, size, top, left);
        const Staircase staircase = make_staircase(0, grid);
        const bool fine = Trellis::of(states).dependent();
        nb::gil_scoped_release release;
        reconstruct_phase(phase, size, static_cast<int>(c), symbols.data(), fine, staircase, all, step.data(),
                          decoded.data());
      },
      "phase"_a, "symbols"_a, "states"_a, "grid"_a, "means"_a, "top"_a, "left"_a, "step"_a, "decoded"_a,
      "The same with the means of the phase by class of places, (C / 4, rows, columns) each, from a row and a column on.");
  m.def(
      "add_to_places",
      [](const Places& parts, InOut<float, 3> sums) {
        const Size size = make_size(sums.shape(1), sums.shape(2));
        const MeansOfPhase all = at_places(parts, sums.shape(0), size, 0, 0);
        nb::gil_scoped_release release;
        add_to_places(all, static_cast<int>(sums.shape(0)), size, sums.data());
      },
      "parts"_a, "sums"_a, "Add to sums (C, height, width) what there is by class of places, (C, rows, columns) each.");
}
