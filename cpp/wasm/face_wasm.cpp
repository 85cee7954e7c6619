// SPDX-License-Identifier: Apache-2.0
// What JavaScript calls beside softstair.h, and what it is called for.
//
// There is no unwinding here: what goes wrong is told to JavaScript, which throws. The instance is
// given up after that, as nothing between was destroyed.
#include <cstdint>
#include <cstdlib>
#include <new>

#include <__verbose_abort>

#include "error.hpp"
#include "refuse.hpp"
#include "softstair.h"

#define IMPORT(name) __attribute__((import_module("softstair"), import_name(name)))
#define EXPORT __attribute__((visibility("default"), used))

namespace {

// What malloc gives, and what is free, in order of address. Of the smallest free block that is large enough
// the beginning is taken; neighbours that are free are one block. The C library's own rounds large blocks
// to powers of two.
struct Block {
  std::size_t size;  // with this
  Block* next;       // free
  std::size_t unused[2];  // blocks begin where vectors may
};
constexpr std::size_t kPage = 65536;
Block* first_free = nullptr;

bool follows(const Block* before, const Block* block) {
  return reinterpret_cast<const char*>(before) + before->size == reinterpret_cast<const char*>(block);
}

}  // namespace

extern "C" {

[[gnu::noinline]] void free(void* memory) {
  if (memory == nullptr) return;
  Block *block = static_cast<Block*>(memory) - 1, *before = nullptr, *after = first_free;
  while (after != nullptr && after < block) before = after, after = after->next;
  block->next = after;
  if (after != nullptr && follows(block, after)) block->size += after->size, block->next = after->next;
  if (before != nullptr && follows(before, block)) {
    before->size += block->size;
    before->next = block->next;
  } else {
    (before == nullptr ? first_free : before->next) = block;
  }
}

[[gnu::noinline]] void* malloc(std::size_t size) {
  if (size > SIZE_MAX - 2 * kPage) return nullptr;
  size = (size + 2 * sizeof(Block) - 1) / sizeof(Block) * sizeof(Block);
  Block *last = nullptr, **best = nullptr;
  for (Block** at = &first_free; *at != nullptr; at = &last->next) {
    last = *at;
    if (last->size >= size && (best == nullptr || last->size < (*best)->size)) best = at;
  }
  if (best != nullptr) {
    Block *block = *best, *rest = block->next;
    if (block->size > size) {
      rest = reinterpret_cast<Block*>(reinterpret_cast<char*>(block) + size);
      rest->size = block->size - size;
      rest->next = block->next;
      block->size = size;
    }
    *best = rest;
    return block + 1;
  }
  const auto end = reinterpret_cast<Block*>(__builtin_wasm_memory_size(0) * kPage);
  const std::size_t there = last != nullptr && follows(last, end) ? last->size : 0, pages = (size - there + kPage - 1) / kPage;
  if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return nullptr;
  end->size = pages * kPage;
  free(end + 1);
  return malloc(size - sizeof(Block));
}

}  // extern "C"

void* operator new(std::size_t size) {
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  softstair::out_of_memory();
}
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" {

IMPORT("fail") [[noreturn]] void stair_js_fail(int code, const char* text);
IMPORT("progress") int stair_js_progress(double done);

// The library would throw these: of what it can run into here, it is lengths that no memory holds.
void* __cxa_allocate_exception(std::size_t size) { return std::malloc(size); }
[[noreturn]] void __cxa_throw(void*, void*, void (*)(void*)) { softstair::out_of_memory(); }

}  // extern "C"

void std::__libcpp_verbose_abort(const char*, ...) noexcept { softstair::out_of_memory(); }
void softstair::fail_with(stair_result code, const std::string& text) { stair_js_fail(code, printable(text).c_str()); }
void softstair::out_of_memory() { stair_js_fail(STAIR_NO_MEMORY, "There is not enough memory for the picture."); }
void softstair::refuse_bundle() { stair_js_fail(STAIR_INVALID_BUNDLE, "The bundle is not valid."); }

extern "C" {

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
