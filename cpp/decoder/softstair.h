/* SPDX-License-Identifier: Apache-2.0
 *
 * Softstair: .stair files to pixels.
 *
 * Every function that can fail returns STAIR_OK or what went wrong; stair_error_text() then says it in
 * one sentence, in the thread that called. Nothing is ever thrown. Handles may be shared between
 * threads for reading; all memory that is given out is freed by the function named beside it.
 */
#ifndef SOFTSTAIR_H
#define SOFTSTAIR_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(SOFTSTAIR_SHARED)
#define STAIR_API __declspec(dllexport)
#elif defined(__GNUC__)
#define STAIR_API __attribute__((visibility("default")))
#else
#define STAIR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define STAIR_VERSION "0.1.0"

typedef enum {
  STAIR_OK = 0,
  STAIR_INTERNAL = 1,       /* a fault of this library */
  STAIR_USAGE = 2,          /* an argument that makes no sense, such as a region outside the picture */
  STAIR_NOT_A_STAIR_FILE = 3,
  STAIR_UNSUPPORTED = 4,    /* made by a newer release */
  STAIR_TRUNCATED = 5,
  STAIR_CORRUPT = 6,
  STAIR_LIMIT = 7,          /* larger than the limits allow */
  STAIR_INVALID_BUNDLE = 8,
  STAIR_WRONG_BUNDLE = 9,   /* the file needs another bundle: see stair_info's fingerprint */
  STAIR_NO_MEMORY = 10,
  STAIR_STOPPED = 11        /* `progress` asked for it */
} stair_result;

/* What went wrong in this thread's last call that failed, or gave an incomplete picture: one sentence, valid until the next one. */
STAIR_API const char* stair_error_text(void);

/* The release, as STAIR_VERSION. */
STAIR_API const char* stair_version(void);

/* A bundle (.stairs): the networks and tables of a family of files. */
typedef struct stair_bundle stair_bundle;

/* data is read, and not needed afterwards. A bundle that holds only what a decoder needs will do. */
STAIR_API stair_result stair_bundle_open(const void* data, size_t size, stair_bundle** bundle);
STAIR_API void stair_bundle_free(stair_bundle* bundle);
/* 8 bytes, as files name it. */
STAIR_API const uint8_t* stair_bundle_fingerprint(const stair_bundle* bundle);

/* What a file says without its pixels. */
typedef struct {
  uint32_t width, height;
  uint32_t colour;          /* 0 RGB, 1 grey */
  uint32_t has_alpha;
  uint32_t version, mode;   /* 0 scalar, 1 rdoq, 2 to 6: trellises of 4, 8, 16, 32 and 512 states */
  uint32_t rate_position;   /* in layers, of the last one that is there */
  uint32_t tiles;           /* how many */
  uint32_t exact_tiles;     /* how many of them are coded without loss, at least in part */
  uint8_t fingerprint[8];   /* of the bundle that it needs, flattened if it was made with a pack; zeros if it needs none */
} stair_file_info;

STAIR_API stair_result stair_info(const void* data, size_t size, stair_file_info* info);

typedef enum { STAIR_ICC = 0, STAIR_EXIF = 1, STAIR_XMP = 2, STAIR_IPTC = 3 } stair_metadata_kind;

/* A block of metadata, verbatim: a profile, EXIF from its TIFF header on, XMP, IPTC. *block is NULL and
 * *block_size 0 if there is none. Free with stair_block_free. */
STAIR_API stair_result stair_metadata(const void* data, size_t size, stair_metadata_kind kind, uint8_t** block,
                                      size_t* block_size);
STAIR_API void stair_block_free(uint8_t* block);

/* How to decode. Start from stair_default_options(). */
typedef struct {
  uint32_t left, top, width, height; /* region in pixels of the picture; a width of 0: all of it */
  uint32_t divisor;     /* 1, 2, 4 .. 64: every so many pixels each way become their mean; from 4 on sooner, if the bundle can */
  uint32_t channels;    /* of the result: 0 as in the file (1 to 4), or 4: RGBA */
  uint64_t max_pixels;  /* refuse pictures with more */
  uint64_t max_memory;  /* bytes to take, about */
  uint32_t allow_partial; /* 1: show what there is of a file that ends early or is damaged, and grey elsewhere */
  /* Called now and then with what is done, 0 to 1; a result other than 0 stops. May be NULL. */
  int (*progress)(void* context, double done);
  void* context;
} stair_options;

STAIR_API stair_options stair_default_options(void);

/* pixels: height rows of width * channels bytes; channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
 * A region is widened to whole blocks of divisor x divisor pixels. incomplete: 1 if a part is missing, with
 * allow_partial only; stair_error_text() then says which. Tiles that the file ends in are shown as far as their
 * bytes reach, which nothing verified. */
typedef struct {
  uint32_t width, height, channels;
  uint32_t incomplete;
  uint8_t* pixels;
} stair_picture;

/* bundle may be NULL for a file that needs none (a fingerprint of zeros); options may be NULL. */
STAIR_API stair_result stair_decode(const stair_bundle* bundle, const void* data, size_t size,
                                    const stair_options* options, stair_picture* picture);
STAIR_API void stair_free(stair_picture* picture);

/* SHA-256 over the symbols of all tiles (z, then y, as int16 little-endian): the same on every machine. */
STAIR_API stair_result stair_symbol_hash(const stair_bundle* bundle, const void* data, size_t size, uint8_t digest[32]);

#ifdef __cplusplus
}
#endif
#endif
