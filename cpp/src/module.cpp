// SPDX-License-Identifier: Apache-2.0
// The Python face of the core: arrays in, arrays out, shapes checked here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <memory>
#include <string>
#include <tuple>

#include "latents.hpp"

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

template <typename T>
std::vector<T> to_vector(const In<T, 1>& array) {
  return {array.data(), array.data() + array.size()};
}

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
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
    Weights w{{weight.data(), weight.data() + weight.size()},
              to_vector(bias),
              limit(weight.shape(0)),
              limit(weight.shape(1)),
              limit(weight.shape(2) * weight.shape(3))};
    layers.emplace(nb::cast<std::string>(key), std::move(w));
  }
  return layers;
}

Size make_size(std::size_t height, std::size_t width) {
  require(height > 0 && width > 0 && height <= 65536 && width <= 65536, "impossible size");
  return {static_cast<int>(height), static_cast<int>(width)};
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
  m.def("simd_available", &simd_available, "True if vector kernels are built in and usable here.");

  nb::class_<Tables>(m, "Tables", "A set of integer CDFs, one row after the other.")
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
            const std::vector<std::uint8_t> bytes = encode_rows(
                self, {rows.data(), rows.size()}, {symbols.data(), symbols.size()}, lanes);
            return nb::bytes(bytes.data(), bytes.size());
          },
          "rows"_a, "symbols"_a, "lanes"_a, "Code symbols, int16 (n,), each by its row, int16 (n,).")
      .def(
          "decode",
          [](const Tables& self, nb::bytes data, In<std::int16_t, 1> rows, int lanes) {
            const std::span<const std::uint8_t> bytes(
                static_cast<const std::uint8_t*>(data.data()), data.size());
            std::vector<std::int16_t> symbols;
            throw_if(decode_rows(self, {rows.data(), rows.size()}, bytes, lanes, symbols));
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

  nb::class_<Model>(m, "Model", "All that decides how the symbols of one rate position are read.")
      .def(
          "__init__",
          [](Model* self, std::shared_ptr<ScaleNetwork> network, std::shared_ptr<Tables> z_tables,
             std::shared_ptr<Tables> y_tables, int base, int skip, In<std::int32_t, 1> rate_bias,
             In<std::int32_t, 1> exponent) {
            const int rows = y_tables->rows();
            Model model{std::move(network), std::move(z_tables), std::move(y_tables),
                        {base, skip, rows}, to_vector(rate_bias), to_vector(exponent)};
            model.check();
            new (self) Model(std::move(model));
          },
          "network"_a, "z_tables"_a, "y_tables"_a, "base"_a, "skip"_a, "rate_bias"_a, "exponent"_a)
      .def(
          "log_scale",
          [](const Model& self, In<std::int16_t, 3> z, std::size_t height, std::size_t width) {
            const Size size = make_size(height, width);
            require(z.shape(0) == static_cast<std::size_t>(size.z_height()) &&
                        z.shape(1) == static_cast<std::size_t>(size.z_width()) &&
                        z.shape(2) == static_cast<std::size_t>(self.network->hyper_latents()),
                    "z does not have the shape that belongs to y");
            ScaleField field(self.network, z.data(), size.height, size.width,
                             self.rate_bias.data(), self.exponent.data());
            return to_array(std::move(field).log_scale(),
                            {height, width, static_cast<std::size_t>(self.network->latents())});
          },
          "z"_a, "height"_a, "width"_a, "s(z^), int16 (height, width, C), 1/32 octave.")
      .def(
          "decode",
          [](const Model& self, nb::bytes data, std::size_t height, std::size_t width) {
            const Size size = make_size(height, width);
            Decoded decoded;
            const std::span<const std::uint8_t> bytes(
                static_cast<const std::uint8_t*>(data.data()), data.size());
            {
              nb::gil_scoped_release release;
              decoded = decode_symbols(self, size, bytes);
            }
            throw_if(decoded.fault);
            const auto zc = static_cast<std::size_t>(self.network->hyper_latents());
            const auto channels = static_cast<std::size_t>(self.network->latents());
            return nb::make_tuple(
                to_array(std::move(decoded.symbols.z), {static_cast<std::size_t>(size.z_height()),
                                                        static_cast<std::size_t>(size.z_width()), zc}),
                to_array(std::move(decoded.symbols.y), {height, width, channels}));
          },
          "data"_a, "height"_a, "width"_a,
          "Symbols (z, y), int16, (h, w, channels). Raises ValueError 'truncated' or 'corrupt'.");

  nb::class_<TileEncoder>(m, "TileEncoder", "Decides and codes the symbols of a tile phase by phase.")
      .def(
          "__init__",
          [](TileEncoder* self, std::shared_ptr<Model> model, In<std::int16_t, 3> z,
             std::size_t height, std::size_t width) {
            const Size size = make_size(height, width);
            require(z.shape(0) == static_cast<std::size_t>(size.z_height()) &&
                        z.shape(1) == static_cast<std::size_t>(size.z_width()) &&
                        z.shape(2) == static_cast<std::size_t>(model->network->hyper_latents()),
                    "z does not have the shape that belongs to y");
            new (self) TileEncoder(std::move(model), size, {z.data(), z.size()});
          },
          "model"_a, "z"_a, "height"_a, "width"_a)
      .def(
          "begin_phase",
          [](TileEncoder& self) {
            const auto group = static_cast<std::size_t>(self.channels() / kPhases);
            std::vector<std::int16_t> rows;
            {
              nb::gil_scoped_release release;
              rows = self.begin_phase();
            }
            return to_array(std::move(rows), {static_cast<std::size_t>(self.size().height),
                                              static_cast<std::size_t>(self.size().width), group});
          },
          "Table rows of the next phase, int16 (height, width, C / 4); -1 where nothing is coded.")
      .def(
          "quantize",
          [](TileEncoder& self, In<float, 3> y, In<float, 3> mean, In<float, 1> gain,
             In<float, 2> thresholds, InOut<float, 3> decoded) {
            check_planes(self, y);
            check_planes(self, mean);
            check_planes(self, In<float, 3>(decoded));
            require(gain.size() == static_cast<std::size_t>(self.channels()), "gain has the wrong size");
            require(thresholds.shape(0) == static_cast<std::size_t>(self.table_rows()) &&
                        thresholds.shape(1) == kThresholds,
                    "thresholds need four values for every table row");
            self.quantize(y.data(), mean.data(), gain.data(), thresholds.data(), decoded.data());
          },
          "y"_a, "mean"_a, "gain"_a, "thresholds"_a, "decoded"_a,
          "Round (y - mean) * gain for the phase begun, one nearer to zero where the threshold\n"
          "of its row, (rows, 4), is not reached, and write mean + q / gain to `decoded`.")
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
          [](const TileEncoder& self) {
            std::vector<std::uint8_t> bytes;
            {
              nb::gil_scoped_release release;
              bytes = self.finish();
            }
            return nb::bytes(bytes.data(), bytes.size());
          },
          "The coded stream.")
      .def("cross_entropy", &TileEncoder::cross_entropy, "Bits that the tables alone charge: (z, y).")
      .def_prop_ro("coded", &TileEncoder::coded, "Number of latents of y that are coded.")
      .def_prop_ro(
          "symbols",
          [](const TileEncoder& self) {
            return to_array(self.symbols(), {static_cast<std::size_t>(self.size().height),
                                             static_cast<std::size_t>(self.size().width),
                                             static_cast<std::size_t>(self.channels())});
          },
          "Symbols decided so far, int16 (height, width, C).");

  m.def(
      "reconstruct_phase",
      [](int phase, In<std::int16_t, 3> symbols, In<float, 3> mean, In<float, 1> step,
         InOut<float, 3> decoded) {
        const std::size_t height = symbols.shape(0), width = symbols.shape(1), c = symbols.shape(2);
        const auto fits = [&](const auto& planes) {
          return planes.shape(0) == c && planes.shape(1) == height && planes.shape(2) == width;
        };
        require(phase >= 0 && phase < kPhases, "phase out of range");
        require(fits(mean) && fits(decoded) && step.size() == c && c % kPhases == 0,
                "planes do not have the shape of the symbols");
        reconstruct_phase(phase, make_size(height, width), static_cast<int>(c), symbols.data(),
                          mean.data(), step.data(), decoded.data());
      },
      "phase"_a, "symbols"_a, "mean"_a, "step"_a, "decoded"_a,
      "Write mean + q * step of one phase into `decoded`, all (C, height, width) but the symbols.");
}
