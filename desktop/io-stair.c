/* SPDX-License-Identifier: Apache-2.0
 *
 * A gdk-pixbuf loader over libsoftstair. Bundles are found by fingerprint: <fingerprint>.stairs or any
 * .stairs file in the folders of SOFTSTAIR_MODELS, or in the one given when this was compiled.
 */
#define GDK_PIXBUF_ENABLE_BACKEND
#include <gdk-pixbuf/gdk-pixbuf.h>
#include <string.h>

#include <softstair.h>

#ifndef SOFTSTAIR_MODELS_FOLDER
#define SOFTSTAIR_MODELS_FOLDER "/usr/share/softstair"
#endif

typedef struct {
  GByteArray* data;
  GdkPixbufModuleSizeFunc size;
  GdkPixbufModulePreparedFunc prepared;
  GdkPixbufModuleUpdatedFunc updated;
  gpointer user;
} Loading;

static void fail(GError** error) {
  g_set_error_literal(error, GDK_PIXBUF_ERROR, GDK_PIXBUF_ERROR_CORRUPT_IMAGE, stair_error_text());
}

static stair_bundle* bundle_in(const char* folder, const uint8_t* fingerprint) {
  GDir* files = g_dir_open(folder, 0, NULL);
  const char* name;
  stair_bundle* found = NULL;
  while (files && !found && (name = g_dir_read_name(files))) {
    if (!g_str_has_suffix(name, ".stairs")) continue;
    char *path = g_build_filename(folder, name, NULL), *bytes = NULL;
    gsize size = 0;
    if (g_file_get_contents(path, &bytes, &size, NULL) && stair_bundle_open(bytes, size, &found) == STAIR_OK &&
        memcmp(stair_bundle_fingerprint(found), fingerprint, 8) != 0) {
      stair_bundle_free(found);
      found = NULL;
    }
    g_free(bytes);
    g_free(path);
  }
  if (files) g_dir_close(files);
  return found;
}

static stair_bundle* find_bundle(const uint8_t* fingerprint) {
  const char* given = g_getenv("SOFTSTAIR_MODELS");
  char* list = given ? g_strconcat(given, G_SEARCHPATH_SEPARATOR_S, SOFTSTAIR_MODELS_FOLDER, NULL) : g_strdup(SOFTSTAIR_MODELS_FOLDER);
  char** folders = g_strsplit(list, G_SEARCHPATH_SEPARATOR_S, -1);
  stair_bundle* found = NULL;
  for (char** folder = folders; *folder && !found; ++folder) found = bundle_in(*folder, fingerprint);
  g_strfreev(folders);
  g_free(list);
  return found;
}

static void free_pixels(guchar* pixels, gpointer data) {
  (void)data;
  stair_picture picture = {.pixels = pixels};
  stair_free(&picture);
}

static guint u16(const uint8_t* at, gboolean big) { return big ? at[0] << 8 | at[1] : at[1] << 8 | at[0]; }

static gsize u32(const uint8_t* at, gboolean big) {
  const gsize first = u16(at, big), second = u16(at + 2, big);
  return big ? first << 16 | second : second << 16 | first;
}

/* 1 to 8 as EXIF counts, or 0: how a viewer is to turn the picture. Tag 274 of the first directory. */
static guint orientation_in(const uint8_t* exif, size_t size) {
  if (size < 8) return 0;
  const gboolean big = exif[0] == 'M';
  const gsize first = u32(exif + 4, big);
  if (first > size - 2) return 0;
  gsize at = first + 2;
  for (guint left = u16(exif + first, big); left > 0 && at + 12 <= size; --left, at += 12)
    if (u16(exif + at, big) == 274) return u16(exif + at + 8, big) <= 8 ? u16(exif + at + 8, big) : 0;
  return 0;
}

/* gdk_pixbuf_apply_embedded_orientation looks for it in an option. */
static void tell_orientation(GdkPixbuf* picture, const uint8_t* data, size_t size) {
  uint8_t* exif = NULL;
  size_t length = 0;
  if (stair_metadata(data, size, STAIR_EXIF, &exif, &length) != STAIR_OK || !exif) return;
  const guint orientation = orientation_in(exif, length);
  stair_block_free(exif);
  if (orientation) {
    char text[] = {(char)('0' + orientation), 0};
    gdk_pixbuf_set_option(picture, "orientation", text);
  }
}

static GdkPixbuf* decoded(const uint8_t* data, size_t size, Loading* loading, GError** error) {
  static const uint8_t none[8] = {0};
  stair_file_info info;
  if (stair_info(data, size, &info) != STAIR_OK) return fail(error), NULL;
  stair_options options = stair_default_options();
  options.channels = 4;
  if (loading && loading->size) { /* a thumbnailer asks for less than all */
    int width = (int)info.width, height = (int)info.height;
    loading->size(&width, &height, loading->user);
    while (width > 0 && options.divisor < 16 && (int)(info.width / (2 * options.divisor)) >= width) options.divisor *= 2;
  }
  stair_bundle* bundle = memcmp(info.fingerprint, none, 8) == 0 ? NULL : find_bundle(info.fingerprint);
  stair_picture picture;
  const stair_result result = stair_decode(bundle, data, size, &options, &picture);
  stair_bundle_free(bundle);
  if (result != STAIR_OK) return fail(error), NULL;
  GdkPixbuf* made = gdk_pixbuf_new_from_data(picture.pixels, GDK_COLORSPACE_RGB, TRUE, 8, (int)picture.width, (int)picture.height, 4 * (int)picture.width, free_pixels, NULL);
  tell_orientation(made, data, size);
  return made;
}

static gpointer begin(GdkPixbufModuleSizeFunc size, GdkPixbufModulePreparedFunc prepared, GdkPixbufModuleUpdatedFunc updated, gpointer user, GError** error) {
  (void)error;
  Loading* loading = g_new0(Loading, 1);
  *loading = (Loading){g_byte_array_new(), size, prepared, updated, user};
  return loading;
}

static gboolean more(gpointer context, const guchar* bytes, guint count, GError** error) {
  (void)error;
  g_byte_array_append(((Loading*)context)->data, bytes, count);
  return TRUE;
}

static gboolean end(gpointer context, GError** error) {
  Loading* loading = context;
  GdkPixbuf* picture = decoded(loading->data->data, loading->data->len, loading, error);
  if (picture) {
    loading->prepared(picture, NULL, loading->user);
    loading->updated(picture, 0, 0, gdk_pixbuf_get_width(picture), gdk_pixbuf_get_height(picture), loading->user);
    g_object_unref(picture);
  }
  g_byte_array_free(loading->data, TRUE);
  g_free(loading);
  return picture != NULL;
}

G_MODULE_EXPORT void fill_vtable(GdkPixbufModule* module) {
  module->begin_load = begin;
  module->load_increment = more;
  module->stop_load = end;
}

G_MODULE_EXPORT void fill_info(GdkPixbufFormat* format) {
  static GdkPixbufModulePattern signature[] = {{(char*)"\xa5STR", NULL, 100}, {NULL, NULL, 0}};
  static gchar *types[] = {(char*)"image/x-stair", NULL}, *extensions[] = {(char*)"stair", NULL};
  format->name = (char*)"stair";
  format->signature = signature;
  format->description = (char*)"Softstair picture";
  format->mime_types = types;
  format->extensions = extensions;
  format->flags = GDK_PIXBUF_FORMAT_THREADSAFE;
  format->license = (char*)"Apache-2.0";
}
