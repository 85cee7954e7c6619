// SPDX-License-Identifier: Apache-2.0
// softstair.h over the decoder: no exception leaves this file.
#include <cstdlib>
#include <cstring>
#include <new>

#include "bundle.hpp"
#include "picture.hpp"
#include "softstair.h"
#include "stream.hpp"

struct stair_bundle {
  softstair::Bundle bundle;
};

namespace {

using namespace softstair;

constexpr std::uint64_t kMostPixels = std::uint64_t{16384} * 16384;
constexpr std::uint64_t kMostMemory = 2'000'000'000;

// Not a string: it must be there when memory is not.
thread_local char error_text[400];

stair_result failed(stair_result code, const char* text) {
  std::strncpy(error_text, text, sizeof error_text - 1);
  return code;
}

template <typename Action>
stair_result guarded(Action action) noexcept {
#ifdef __cpp_exceptions
  try {
    action();
    return STAIR_OK;
  } catch (const Error& error) {
    return failed(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return failed(STAIR_NO_MEMORY, "There is not enough memory for the picture.");
  } catch (const std::length_error&) {
    return failed(STAIR_NO_MEMORY, "There is not enough memory for the picture.");
  } catch (const std::exception& error) {
    return failed(STAIR_INTERNAL, error.what());
  }
#else
  action();
  return STAIR_OK;
#endif
}

// What a page never does.
void need_argument([[maybe_unused]] bool makes_sense, [[maybe_unused]] const char* text) {
#ifndef SOFTSTAIR_BROWSER
  require(makes_sense, STAIR_USAGE, text);
#endif
}

Bytes bytes_of(const void* data, std::size_t size) {
  need_argument(data != nullptr || size == 0, "There is no data.");
  return {static_cast<const std::uint8_t*>(data), size};
}

// Memory that C programs free.
std::uint8_t* given_away(const std::vector<std::uint8_t>& bytes) {
  auto* memory = static_cast<std::uint8_t*>(std::malloc(bytes.empty() ? 1 : bytes.size()));
  if (memory == nullptr) out_of_memory();
  std::copy(bytes.begin(), bytes.end(), memory);
  return memory;
}

View view_of(const stair_options& options) {
  const std::uint32_t divisor = options.divisor;
  require(divisor != 0 && divisor <= 64 && (divisor & (divisor - 1)) == 0, STAIR_USAGE,
          "Pictures can be scaled by one over 1, 2, 4, 8, 16, 32 or 64.");
  need_argument(options.channels == 0 || options.channels == 4, "A result has channels as in the file, or four.");
  View view;
  view.divisor = static_cast<int>(divisor);
  view.partial = options.allow_partial != 0;
  if (options.width != 0) {
    constexpr std::uint32_t kMost = 1 << 24;
    for (const std::uint32_t side : {options.left, options.top, options.width, options.height})
      require(side < kMost, STAIR_USAGE, "The region is not inside the picture.");
    view.region = Box{static_cast<int>(options.top), static_cast<int>(options.left), static_cast<int>(options.top + options.height),
                      static_cast<int>(options.left + options.width)};
  }
  return view;
}

}  // namespace

extern "C" {

const char* stair_error_text(void) { return error_text; }

const char* stair_version(void) { return STAIR_VERSION; }

stair_result stair_bundle_open(const void* data, size_t size, stair_bundle** bundle) {
  return guarded([&] {
    need_argument(bundle != nullptr, "There is no place for the bundle.");
    *bundle = nullptr;
    *bundle = new stair_bundle{Bundle(bytes_of(data, size))};
  });
}

void stair_bundle_free(stair_bundle* bundle) { delete bundle; }

const uint8_t* stair_bundle_fingerprint(const stair_bundle* bundle) { return bundle->bundle.fingerprint().data(); }

stair_result stair_info(const void* data, size_t size, stair_file_info* info) {
  return guarded([&] {
    need_argument(info != nullptr, "There is no place for the information.");
    *info = {};
    const Stream stream(bytes_of(data, size), ~std::uint64_t{0});
    const Header& header = stream.header();
    info->width = static_cast<std::uint32_t>(header.width);
    info->height = static_cast<std::uint32_t>(header.height);
    info->colour = header.grey ? 1 : 0;
    info->has_alpha = stream.has_alpha() ? 1 : 0;
    info->version = static_cast<std::uint32_t>(header.version);
    info->mode = static_cast<std::uint32_t>(header.mode);
    info->rate_position = static_cast<std::uint32_t>(stream.shown_position());
    info->tiles = static_cast<std::uint32_t>(stream.grid().count());
    info->exact_tiles = stream.reduced() ? 0 : static_cast<std::uint32_t>(stream.exact_tiles());
    std::copy(header.fingerprint.begin(), header.fingerprint.end(), info->fingerprint);
  });
}

stair_result stair_metadata(const void* data, size_t size, stair_metadata_kind kind, uint8_t** block, size_t* block_size) {
  return guarded([&] {
    need_argument(block != nullptr && block_size != nullptr, "There is no place for the metadata.");
    *block = nullptr;
    *block_size = 0;
    need_argument(kind >= STAIR_ICC && kind <= STAIR_IPTC, "There is no such kind of metadata.");
    const Stream stream(bytes_of(data, size), ~std::uint64_t{0});
    const auto found = stream.metadata(kind);
    if (!found) return;
    *block = given_away(*found);
    *block_size = found->size();
  });
}

void stair_block_free(uint8_t* block) { std::free(block); }

stair_options stair_default_options(void) {
  stair_options options{};
  options.divisor = 1;
  options.max_pixels = kMostPixels;
  options.max_memory = kMostMemory;
  return options;
}

stair_result stair_decode(const stair_bundle* bundle, const void* data, size_t size, const stair_options* options,
                          stair_picture* picture) {
  return guarded([&] {
    need_argument(picture != nullptr, "There is no place for the picture.");
    *picture = {};
    const stair_options given = options != nullptr ? *options : stair_default_options();
    const View view = view_of(given);
    const Stream stream(bytes_of(data, size), given.max_pixels);
    std::function<bool(double)> progress;
    if (given.progress != nullptr) progress = [&](double done) { return given.progress(given.context, done) != 0; };
    Picture decoded = decode(bundle == nullptr ? nullptr : &bundle->bundle, stream, view, static_cast<int>(given.channels), {given.max_memory}, progress);
    picture->incomplete = decoded.damage.empty() ? 0 : 1;
    if (!decoded.damage.empty()) failed(STAIR_OK, decoded.damage.c_str());
    picture->pixels = decoded.pixels.release();
    picture->width = static_cast<std::uint32_t>(decoded.width);
    picture->height = static_cast<std::uint32_t>(decoded.height);
    picture->channels = static_cast<std::uint32_t>(decoded.channels);
  });
}

void stair_free(stair_picture* picture) {
  if (picture == nullptr) return;
  std::free(picture->pixels);
  *picture = {};
}

stair_result stair_symbol_hash(const stair_bundle* bundle, const void* data, size_t size, uint8_t digest[32]) {
  return guarded([&] {
    need_argument(digest != nullptr, "There is no place for the hash.");
    const Stream stream(bytes_of(data, size), kMostPixels);
    const auto found = symbol_hash(bundle == nullptr ? nullptr : &bundle->bundle, stream);
    std::copy(found.begin(), found.end(), digest);
  });
}

}  // extern "C"
