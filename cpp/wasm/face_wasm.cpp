// SPDX-License-Identifier: Apache-2.0
// What JavaScript calls beside softstair.h, and what it is called for.
//
// There is no unwinding here: what would be thrown goes to JavaScript, which throws instead. The
// instance is given up after that, as nothing between was destroyed.
#include <cstdlib>
#include <exception>
#include <new>
#include <typeinfo>

#include <__verbose_abort>

#include "error.hpp"
#include "softstair.h"

#define IMPORT(name) __attribute__((import_module("softstair"), import_name(name)))
#define EXPORT __attribute__((visibility("default"), used))

void std::__libcpp_verbose_abort(const char*, ...) noexcept { __builtin_trap(); }

void* operator new(std::size_t size) {
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" {

IMPORT("fail") [[noreturn]] void stair_js_fail(int code, const char* text);
IMPORT("progress") int stair_js_progress(double done);

void* __cxa_allocate_exception(std::size_t size) { return std::malloc(size); }
void __cxa_free_exception(void* exception) { std::free(exception); }
[[noreturn]] void __cxa_throw(void* thrown, void* type, void (*)(void*)) {
  // Everything that is thrown is derived from std::exception alone, and so begins with it.
  auto* exception = static_cast<std::exception*>(thrown);
  const auto is = [type](const std::type_info& other) { return *static_cast<const std::type_info*>(type) == other; };
  if (is(typeid(softstair::Error))) stair_js_fail(static_cast<softstair::Error*>(exception)->code(), exception->what());
  if (is(typeid(std::bad_alloc)) || is(typeid(std::length_error)))
    stair_js_fail(STAIR_NO_MEMORY, "There is not enough memory for the picture.");
  stair_js_fail(STAIR_INTERNAL, exception->what());
}

EXPORT void* stair_alloc(std::size_t size) { return std::malloc(size > 0 ? size : 1); }
EXPORT void stair_dealloc(void* memory) { std::free(memory); }

EXPORT stair_bundle* stair_js_open(const void* data, std::size_t size) {
  stair_bundle* bundle = nullptr;
  stair_bundle_open(data, size, &bundle);
  return bundle;
}

// RGBA; `found` is width, height and whether a part is missing. Sizes are doubles, which JavaScript has.
EXPORT std::uint8_t* stair_js_decode(const stair_bundle* bundle, const void* data, std::size_t size, std::uint32_t left, std::uint32_t top,
                                     std::uint32_t width, std::uint32_t height, std::uint32_t divisor, double max_pixels,
                                     double max_memory, std::uint32_t allow_partial, std::uint32_t found[3]) {
  stair_options options = stair_default_options();
  options.left = left;
  options.top = top;
  options.width = width;
  options.height = height;
  options.divisor = divisor;
  options.channels = 4;
  options.max_pixels = static_cast<std::uint64_t>(max_pixels);
  options.max_memory = static_cast<std::uint64_t>(max_memory);
  options.allow_partial = allow_partial;
  options.progress = [](void*, double done) { return stair_js_progress(done); };
  stair_picture picture{};
  stair_decode(bundle, data, size, &options, &picture);
  found[0] = picture.width;
  found[1] = picture.height;
  found[2] = picture.incomplete;
  return picture.pixels;
}

}  // extern "C"
