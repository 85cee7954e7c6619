// SPDX-License-Identifier: Apache-2.0
// zlib's format (RFC 1950) around Deflate (RFC 1951), reading only.
#pragma once

#include <optional>
#include <vector>

#include "cursor.hpp"

namespace softstair {

enum class Inflated { done, damaged, too_long };

// All of `deflated`, which must be one whole zlib stream; at most `limit` bytes come out.
Inflated inflate(Bytes deflated, std::size_t limit, std::vector<std::uint8_t>& out);

}  // namespace softstair
