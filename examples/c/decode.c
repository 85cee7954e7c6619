/* cc decode.c $(pkg-config --cflags --libs softstair) -o decode && ./decode photo.stair photo.stairs > photo.ppm */
#include <softstair.h>
#include <stdio.h>
#include <stdlib.h>

static void* whole_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END) != 0) exit((perror(path), 1));
  *size = (size_t)ftell(file);
  void* data = malloc(*size + 1);
  rewind(file);
  if (!data || fread(data, 1, *size, file) != *size) exit((perror(path), 1));
  return fclose(file), data;
}

int main(int count, char** arguments) {
  if (count != 3) return fprintf(stderr, "usage: decode FILE.stair BUNDLE.stairs > FILE.ppm\n"), 2;
  size_t file_size, bundle_size;
  void *file = whole_file(arguments[1], &file_size), *bytes = whole_file(arguments[2], &bundle_size);
  stair_bundle* bundle;
  stair_picture picture;
  if (stair_bundle_open(bytes, bundle_size, &bundle) != STAIR_OK ||
      stair_decode(bundle, file, file_size, NULL, &picture) != STAIR_OK)
    return fprintf(stderr, "%s\n", stair_error_text()), 1;
  printf("P%d %u %u 255\n", picture.channels < 3 ? 5 : 6, picture.width, picture.height);
  for (size_t i = 0; i < (size_t)picture.width * picture.height; ++i)
    fwrite(picture.pixels + i * picture.channels, 1, picture.channels < 3 ? 1 : 3, stdout);
  stair_free(&picture);
  stair_bundle_free(bundle);
  return 0;
}
