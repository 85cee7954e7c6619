// SPDX-License-Identifier: Apache-2.0
// What can go wrong between bytes and a picture. The C face turns it into a code and a text.
#pragma once

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "refuse.hpp"
#include "softstair.h"

namespace softstair {

// std::to_string would bring a kilobyte of tables into every page.
inline std::string decimal(std::uint64_t number) {
  std::string digits;
  do digits.insert(digits.begin(), static_cast<char>('0' + number % 10));
  while (number /= 10);
  return digits;
}

// One line for a terminal, whatever names a damaged file has.
inline std::string printable(std::string text) {
  for (char& c : text)
    if (c < 32 || c > 126) c = '?';
  return text;
}

class Error : public std::runtime_error {
 public:
  Error(stair_result code, const std::string& text) : std::runtime_error(printable(text)), code_(code) {}
  stair_result code() const { return code_; }

 private:
  stair_result code_;
};

// Throw Error and std::bad_alloc. With SOFTSTAIR_BROWSER, where nothing can be thrown, the face ends the call.
[[noreturn]] void fail_with(stair_result code, const std::string& text);
[[noreturn]] void out_of_memory();

#ifndef SOFTSTAIR_BROWSER
inline void fail_with(stair_result code, const std::string& text) { throw Error(code, text); }
inline void out_of_memory() { throw std::bad_alloc(); }
#endif

// Fails with STAIR_INVALID_BUNDLE; parts: strings that are the text. With SOFTSTAIR_BROWSER the text is that of refuse.hpp.
template <typename... Parts>
[[noreturn]] void fail_bundle([[maybe_unused]] const Parts&... parts) {
#ifdef SOFTSTAIR_BROWSER
  refuse_bundle();
#else
  fail_with(STAIR_INVALID_BUNDLE, (std::string() + ... + parts));
#endif
}

// Fails unless the condition holds.
inline void require(bool condition, stair_result code, const char* text) {
  if (!condition) fail_with(code, text);
}

}  // namespace softstair
