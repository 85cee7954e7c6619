// SPDX-License-Identifier: Apache-2.0
#include "rans.hpp"

#include <algorithm>
#include <cmath>

#include "refuse.hpp"

namespace softstair {

namespace {

void check_rows(const Tables& tables, std::span<const std::int16_t> rows, int lanes) {
  if (lanes != 1 && lanes != 2 && lanes != kMaxLanes)
    refuse("lanes must be 1, 2 or 4");
  for (const std::int16_t row : rows)
    if (row < 0 || row >= tables.rows()) refuse("a row is not in the tables");
}

}  // namespace

void check_symbols(std::span<const std::int16_t> symbols) {
  if (std::find(symbols.begin(), symbols.end(), std::int16_t{-32768}) != symbols.end())
    refuse("a symbol is out of range");
}

std::vector<std::uint8_t> encode_rows(const Tables& tables, std::span<const std::int16_t> rows,
                                      std::span<const std::int16_t> symbols, int lanes) {
  check_rows(tables, rows, lanes);
  check_symbols(symbols);
  if (symbols.size() != rows.size()) refuse("every symbol needs a row");
  Encoder encoder(lanes);
  for (std::size_t i = rows.size(); i-- > 0;)
    encoder.write_before(tables, rows[i], i, symbols[i]);
  return encoder.finish();
}

Fault decode_rows(const Tables& tables, std::span<const std::int16_t> rows,
                  std::span<const std::uint8_t> bytes, int lanes,
                  std::vector<std::int16_t>& symbols) {
  check_rows(tables, rows, lanes);
  symbols.resize(rows.size());
  Decoder decoder(bytes, lanes);
  for (std::size_t i = 0; i < rows.size(); ++i)
    symbols[i] = static_cast<std::int16_t>(decoder.read(tables, rows[i], i));
  decoder.finish();
  return decoder.fault();
}

// Rounding may make a stream shorter than its tables say, but not by much. With M = 2^14, coding a
// symbol of f slots takes a state x = f q + r >= 4 M to x' >= M q + r, and as M > r,
//     x' - M >= (x - M) M / f:
// log2(x - M) grows by what the table charges or more. If a word leaves first, w = x / 2^16 >= 4 f,
//     x' > (w - f) M / f >= 3/4 w M / f  and  x' - M >= 3/4 x':
// the 16 bits of a word pay for at most 16 + 2 log2(4/3) < 17. The final state, written in 32 bits,
// pays for at most 32 - log2(3 M) < 17.
bool cannot_hold(std::size_t bytes, double bits) {
  return bits > 8.0 * static_cast<double>(bytes) * 17 / 16;
}

double least_bits(const Tables& tables, int row) {
  const std::uint16_t* cdf = tables.cdf(row);
  int most = 0;
  for (int symbol = 0; symbol < tables.symbols(row); ++symbol)
    most = std::max(most, cdf[symbol + 1] - cdf[symbol]);
  // log2(most) bit by bit, rounded up: a library's has a kilobyte that a browser would have to load.
  const int whole = std::bit_width(static_cast<unsigned>(most)) - 1;
  double bits = kProbabilityBits - whole, rest = static_cast<double>(most) / (1 << whole);
  if (rest == 1) return bits;
  for (double bit = 0.5; bit > 1e-7; bit /= 2)
    if ((rest *= rest) >= 2) rest /= 2, bits -= bit;
  return std::max(0.0, bits - 2e-7);
}

}  // namespace softstair
