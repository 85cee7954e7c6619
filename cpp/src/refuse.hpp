// SPDX-License-Identifier: Apache-2.0
// What happens where parts of a bundle, or a caller's arguments, do not fit each other.
#pragma once

#include <stdexcept>
#include <string>

namespace softstair {

// With SOFTSTAIR_BROWSER: one sentence for all of it, as a page cannot do anything about any.
[[noreturn]] void refuse_bundle();

// Throws std::invalid_argument; parts: strings that are its text.
template <typename... Parts>
[[noreturn]] void refuse([[maybe_unused]] const Parts&... parts) {
#ifdef SOFTSTAIR_BROWSER
  refuse_bundle();
#else
  throw std::invalid_argument((std::string() + ... + parts));
#endif
}

}  // namespace softstair
