// SPDX-License-Identifier: Apache-2.0
#include "stream.hpp"

#include <algorithm>

#include "checksums.hpp"
#include "inflate.hpp"
#include "pixels.hpp"
#include "vp8l.hpp"

namespace softstair {
namespace {

constexpr std::array<std::uint8_t, 4> kMagic = {0xa5, 'S', 'T', 'R'};
constexpr int kLargestSide = 65536;
constexpr std::size_t kMostMetadata = std::size_t{64} << 20;  // bytes of one block, inflated
constexpr std::uint32_t kAlpha = 1;
constexpr std::uint32_t kIcc1 = 2, kExif1 = 4, kXmp1 = 8;                                                 // version 1
constexpr std::uint32_t kMetadata = 2, kExact = 4, kPack = 8, kProgressive = 16, kExactAlpha = 32, kReduced = 64, kSmoothed = 128;  // version 2
constexpr std::uint64_t kNever = std::uint64_t{1} << 62;  // an offset beyond all files
constexpr const char* kNames[] = {"ICC", "EXIF", "XMP", "IPTC"};

std::uint32_t varint(Cursor& cursor, const char* name) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    const std::uint8_t byte = cursor.byte(name);
    value |= static_cast<std::uint64_t>(byte & 127) << shift;
    if (byte < 128) {
      if (value > 0xffffffffu) break;
      return static_cast<std::uint32_t>(value);
    }
  }
  fail_with(STAIR_CORRUPT, "The " + std::string(name) + " before byte " + decimal(cursor.offset()) + " is longer than a number may be.");
}

int side(Cursor& cursor, const char* name) {
  const std::uint32_t value = varint(cursor, name);
  if (value == 0) fail_with(STAIR_CORRUPT, "The " + std::string(name) + " is zero.");
  if (value > kLargestSide)
    fail_with(STAIR_LIMIT, "The " + std::string(name) + " is " + decimal(value) + ", more than the format's limit of 65536.");
  return static_cast<int>(value);
}

// With SOFTSTAIR_BROWSER one sentence for all of it.
void consistent(bool holds, [[maybe_unused]] const char* text) {
#ifdef SOFTSTAIR_BROWSER
  text = "The header contradicts itself.";
#endif
  require(holds, STAIR_CORRUPT, text);
}

[[noreturn]] void unknown(const char* what, std::uint32_t value) {
  fail_with(STAIR_UNSUPPORTED, "The stream has unknown " + std::string(what) + " " + decimal(value) + "; a newer release may read it.");
}

void check(Cursor& cursor, std::uint32_t found, const std::string& name) {
  const auto expected = cursor.little<std::uint32_t>("checksum");
  if (found != expected) fail_with(STAIR_CORRUPT, "The checksum of " + name + " is wrong; the file is damaged.");
}

}  // namespace

std::string hexadecimal(Bytes bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

Stream::Stream(Bytes bytes, std::uint64_t max_pixels) : cursor_(bytes, STAIR_TRUNCATED, "the stream") {
  read_header();
  const std::uint64_t pixels = static_cast<std::uint64_t>(header_.width) * header_.height;
  if (pixels > max_pixels)
    fail_with(STAIR_LIMIT, "The picture has " + decimal(header_.width) + "x" + decimal(header_.height) +
                               " pixels, more than the limit of " + decimal(max_pixels) + "; raise the limit if you trust the file.");
  grid_.emplace(header_.height, header_.width, header_.layout);
  const auto count = static_cast<std::size_t>(grid_->count());
  if (count > cursor_.left())  // an entry has at least a byte
    fail_with(STAIR_TRUNCATED, "The tile index needs " + decimal(count) + " bytes, " + decimal(cursor_.left()) +
                                   " are left; the file is not complete.");
  const std::size_t parts = this->parts();
  for (std::size_t i = 0; i < parts * count; ++i) lengths_.push_back(varint(cursor_, "tile index"));
  if (parts > 1) joined_.resize(count);
  if (header_.version == 2 && (header_.flags & kExact) != 0) {
    const Bytes bitmap = cursor_.take((count + 7) / 8, "bitmap of exact tiles");
    for (std::size_t i = 0; i < count; ++i) exact_.push_back(bitmap[i / 8] >> (i % 8) & 1);
    for (std::size_t i = count; i < 8 * bitmap.size(); ++i)
      require((bitmap[i / 8] >> (i % 8) & 1) == 0, STAIR_CORRUPT, "The bitmap of exact tiles marks tiles that do not exist.");
  }
  head_crc_ = crc32(bytes.first(cursor_.offset()));
  std::uint64_t offset = cursor_.offset();
  offsets_.resize(lengths_.size());
  for (std::size_t part = 0; part < parts; ++part) {
    for (std::size_t i = part; i < lengths_.size(); i += parts) {
      offsets_[i] = offset;
      offset += static_cast<std::uint64_t>(lengths_[i]) + 4;
    }
    if (!layered()) continue;
    if (part == 0) {  // alpha and metadata come after the first layer
      extras_start_ = offset;
      if (!pass_extras(offset, false) || offset > bytes.size()) offset = kNever;
    }
    boundaries_.push_back(offset);
  }
  offsets_.push_back(offset);
  for (std::size_t layer = 1; layer < boundaries_.size() && boundaries_[layer] <= bytes.size(); ++layer) ++layers_;
}

bool Stream::ends_within_a_layer() const {
  const std::size_t size = cursor_.whole().size();
  return layered() && size > boundaries_.front() && std::find(boundaries_.begin(), boundaries_.end(), size) == boundaries_.end();
}

void Stream::read_header() {
  const Bytes bytes = cursor_.whole();
  const std::size_t given = std::min(bytes.size(), kMagic.size());
  if (given == 0 || !std::equal(bytes.begin(), bytes.begin() + given, kMagic.begin()))
    fail_with(STAIR_NOT_A_STAIR_FILE, "The data does not start like a .stair file.");
  cursor_.take(kMagic.size(), "magic");
  header_.version = cursor_.byte("version");
  if (header_.version != 1 && header_.version != 2) unknown("version", header_.version);
  header_.flags = header_.version == 1 ? cursor_.byte("flags") : varint(cursor_, "flags");
  const std::uint32_t known = header_.version == 1 ? kAlpha | kIcc1 | kExif1 | kXmp1 : kAlpha | kMetadata | kExact | kPack | kProgressive | kExactAlpha | kReduced | kSmoothed;
  if ((header_.flags & ~known) != 0) unknown("flags", header_.flags);
  consistent(header_.version == 1 || (header_.flags & kExactAlpha) == 0 || has_alpha(), "The flags say how alpha is coded, but there is none.");
  consistent(!reduced() || (header_.flags & kExact) != 0, "The flags say what exact tiles are of, but there are none.");
  const Bytes fingerprint = cursor_.take(header_.fingerprint.size(), "fingerprint");
  std::copy(fingerprint.begin(), fingerprint.end(), header_.fingerprint.begin());
  if (header_.version == 2 && (header_.flags & kPack) != 0) {
    const Bytes pack = cursor_.take(header_.fingerprint.size(), "fingerprint of the pack");
    header_.base = header_.fingerprint;
    std::copy(pack.begin(), pack.end(), header_.fingerprint.begin());
    consistent(header_.base != Fingerprint{} && needs_bundle(), "The stream has a pack, but no bundle that it changes.");
  }
  header_.width = side(cursor_, "width");
  header_.height = side(cursor_, "height");
  const std::uint8_t colour = cursor_.byte("colour"), mode = cursor_.byte("mode");
  header_.position = cursor_.byte("rate position");
  if (colour > 1) unknown("colour", colour);
  if (mode >= (header_.version == 1 ? kLayered : static_cast<int>(kModes.size()) + 1)) unknown("mode", mode);
  header_.grey = colour == 1;
  header_.mode = mode < kLayered ? mode : mode == kLayered ? kRdoq : mode - 1;
  if (mode == kLayered) {
    header_.layers = cursor_.byte("number of layers");
    if (header_.layers < 2 || header_.layers > kMostLayers) unknown("number of layers", static_cast<std::uint32_t>(header_.layers));
    consistent(!progressive() && (header_.flags & kExact) == 0, "The stream is in layers and has another order or exact tiles, too.");
  }
  if (header_.version == 2 && (header_.flags & kSmoothed) != 0) {
    header_.smoothing = cursor_.byte("smoothing");
    if (header_.smoothing > kMostSmoothing) unknown("smoothing", static_cast<std::uint32_t>(header_.smoothing));
    consistent(header_.smoothing > 0 && needs_bundle(), "The stream says that it is smoothed, but nothing of it is.");
  }
  const std::uint32_t layout = varint(cursor_, "tile layout");
  if (layout > kLargestLayout) unknown("tile layout", layout);
  header_.layout = static_cast<int>(layout);
}

bool Stream::has_alpha() const { return (header_.flags & kAlpha) != 0; }

int Stream::exact_tiles() const { return static_cast<int>(std::count(exact_.begin(), exact_.end(), true)); }

bool Stream::reduced() const { return header_.version == 2 && (header_.flags & kReduced) != 0; }

bool Stream::progressive() const { return header_.version == 2 && (header_.flags & kProgressive) != 0; }

Bytes Stream::tile(int index) const {
  const std::string name = "tile " + decimal(index);
  if (parts() == 1) return piece(index, name);
  const std::size_t first = parts() * index;
  if (joined_parts() == 1) return piece(first, name);
  std::vector<Bytes> found;
  for (std::size_t part = 0; part < joined_parts(); ++part) found.push_back(piece(first + part, name));
  auto& joined = joined_[index];
  if (joined.empty())
    for (const Bytes& part : found) joined.insert(joined.end(), part.begin(), part.end());
  return joined;
}

Piece Stream::find(int index) const {
  Piece found = Piece::whole;
  for (std::size_t part = 0; part < joined_parts() && found == Piece::whole; ++part) found = state(parts() * index + part);
  return found;
}

std::vector<std::uint8_t> Stream::beginning(int index) const {
  std::vector<std::uint8_t> found;
  const Bytes bytes = cursor_.whole();
  const std::size_t first = parts() * index;
  for (std::size_t part = first; part < first + (layered() ? 1 : parts()); ++part) {
    if (offsets_[part] >= bytes.size()) break;
    const Bytes rest = bytes.subspan(static_cast<std::size_t>(offsets_[part]));
    const Bytes piece = rest.first(std::min<std::size_t>(lengths_[part], rest.size()));
    found.insert(found.end(), piece.begin(), piece.end());
    if (state(part) == Piece::cut) break;
  }
  return found;
}

Piece Stream::state(std::size_t part) const {
  const Bytes bytes = cursor_.whole();
  if (offsets_[part] + lengths_[part] + 4 > bytes.size()) return Piece::cut;
  const Bytes payload = bytes.subspan(static_cast<std::size_t>(offsets_[part]), lengths_[part]);
  return crc32(payload, head_crc_) == load_little<std::uint32_t>(payload.data() + payload.size()) ? Piece::whole : Piece::damaged;
}

Bytes Stream::piece(std::size_t part, const std::string& name) const {
  const Bytes bytes = cursor_.whole();
  switch (state(part)) {
    case Piece::cut:
      fail_with(STAIR_TRUNCATED, "The " + name + " ends at byte " + decimal(offsets_[part] + lengths_[part] + 4) + ", the file at byte " +
                                     decimal(bytes.size()) + "; the file is not complete.");
    case Piece::damaged:
      fail_with(STAIR_CORRUPT, "The checksum of " + name + " is wrong; the file is damaged.");
    case Piece::whole:
      break;
  }
  return bytes.subspan(static_cast<std::size_t>(offsets_[part]), lengths_[part]);
}

Cursor Stream::after_tiles() const {
  Cursor cursor = cursor_;
  cursor.take(extras_start() - cursor.offset(), "tiles");
  return cursor;
}

ExactPayload Stream::exact_payload(int index) const {
  const Bytes payload = tile(index);
  Cursor cursor(payload, STAIR_CORRUPT, "the payload of tile " + decimal(index));
  const Bytes learned = cursor.take(varint(cursor, "learned part"), "learned part");
  return {learned, payload.subspan(cursor.offset())};
}

// before: what its checksum begins with.
Bytes Stream::block(Cursor& cursor, const char* name, Bytes before) const {
  const Bytes bytes = cursor.take(varint(cursor, name), name);
  check(cursor, crc32(bytes, crc32(before)), name);
  return bytes;
}

int Stream::alpha_blocks() const {
  if (!has_alpha()) return 0;
  return header_.version == 2 && (header_.flags & kExactAlpha) != 0 ? grid_->count() : 1;
}

void Stream::pass_alpha(Cursor& cursor) const {
  for (int left = alpha_blocks(); left > 0; --left) block(cursor, "alpha");
}

std::vector<std::uint8_t> Stream::inflated(Bytes deflated, const char* name, std::size_t limit) const {
  std::vector<std::uint8_t> content;
  const Inflated result = inflate(deflated, limit, content);
  if (result == Inflated::too_long)
    fail_with(STAIR_LIMIT, "The " + std::string(name) + " inflates to more than " + decimal(limit) + " bytes.");
  if (result != Inflated::done) fail_with(STAIR_CORRUPT, "The " + std::string(name) + " is not one whole deflated block.");
  return content;
}

std::vector<std::uint8_t> Stream::alpha() const {
  if (!has_alpha()) return {};
  Cursor cursor = after_tiles();
  const auto width = static_cast<std::size_t>(header_.width);
  const std::size_t samples = width * header_.height;
  if (header_.version == 2 && (header_.flags & kExactAlpha) != 0) return exact_alpha(cursor);
  std::vector<std::uint8_t> plane = inflated(block(cursor, "alpha"), "alpha", samples);
  require(plane.size() == samples, STAIR_CORRUPT, "The alpha plane does not have the size of the picture.");
  for (std::size_t i = width; i < samples; ++i) plane[i] = static_cast<std::uint8_t>(plane[i] + plane[i - width]);
  return plane;
}

std::vector<std::uint8_t> Stream::exact_alpha(Cursor& cursor) const {
  std::vector<Bytes> blocks;  // all checksums before the plane is allocated
  for (int index = 0; index < grid_->count(); ++index) blocks.push_back(block(cursor, "alpha"));
  const auto width = static_cast<std::size_t>(header_.width);
  std::vector<std::uint8_t> plane(width * header_.height);
  for (int index = 0; index < grid_->count(); ++index) {
    const Box box = grid_->box(index);
    const auto samples = decode_vp8l(blocks[index], box.rows(), box.columns(), "alpha of tile " + decimal(index));
    for (int y = 0; y < box.rows(); ++y)
      for (int x = 0; x < box.columns(); ++x)
        plane[(box.top + y) * width + box.left + x] = static_cast<std::uint8_t>(samples[static_cast<std::size_t>(y) * box.columns() + x] >> 8);
  }
  return plane;
}

std::optional<std::vector<std::uint8_t>> Stream::metadata(int kind) const {
  Cursor cursor = after_tiles();
  pass_alpha(cursor);
  std::optional<std::vector<std::uint8_t>> found;
  if (header_.version == 1) {
    for (int i = 0; i < 3; ++i)
      if ((header_.flags & kIcc1 << i) != 0) {
        const Bytes deflated = block(cursor, kNames[i]);
        if (i == kind) found = inflated(deflated, kNames[i], kMostMetadata);
      }
  } else if ((header_.flags & kMetadata) != 0) {
    std::array<bool, 256> seen{};
    for (std::uint32_t left = varint(cursor, "count of metadata"); left > 0; --left) {
      const Bytes of = cursor.take(1, "kind of metadata");
      const Bytes content = block(cursor, "metadata", of);
      require(!seen[of[0]], STAIR_CORRUPT, "The stream has metadata of one kind twice.");
      seen[of[0]] = true;
      if (of[0] == kind) found = inflated(content, kNames[of[0]], kMostMetadata);
    }
  }
  if (layered()) {
    if (ends_within_a_layer())
      fail_with(cursor_.whole().size() > boundaries_.back() ? STAIR_CORRUPT : STAIR_TRUNCATED, "The file ends at byte " + decimal(cursor_.whole().size()) +
                                                                      ", which is no end of one of its " + decimal(header_.layers) + " layers.");
  } else if (cursor.left() != 0)
    fail_with(STAIR_CORRUPT, decimal(cursor.left()) + " bytes follow the end of the stream at byte " + decimal(cursor.offset()) + ".");
  return found;
}

void Stream::check_extras() const { metadata(-1); }

bool Stream::has_whole_extras() const {
  std::uint64_t at = extras_start();
  // Beyond, where there are none and tiles are cut.
  return pass_extras(at, true) && (layered() || at >= cursor_.whole().size());
}

bool Stream::pass_extras(std::uint64_t& at, bool checked) const {
  const Bytes bytes = cursor_.whole();
  const auto number = [&](std::uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 35 && at < bytes.size(); shift += 7) {
      const std::uint8_t byte = bytes[static_cast<std::size_t>(at++)];
      value |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return true;
    }
    return false;
  };
  const auto block = [&](Bytes before) {
    std::uint64_t length;
    if (!number(length) || at + length + 4 > bytes.size()) return false;
    const Bytes content = bytes.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(length));
    at += length + 4;
    return !checked || crc32(content, crc32(before)) == load_little<std::uint32_t>(content.data() + content.size());
  };
  for (int left = alpha_blocks(); left > 0; --left)
    if (!block({})) return false;
  if (header_.version == 1) {
    for (const std::uint32_t flag : {kIcc1, kExif1, kXmp1})
      if ((header_.flags & flag) != 0 && !block({})) return false;
  } else if ((header_.flags & kMetadata) != 0) {
    std::uint64_t left;
    if (!number(left)) return false;
    for (; left > 0; --left) {
      if (at >= bytes.size()) return false;
      const Bytes kind = bytes.subspan(static_cast<std::size_t>(at++), 1);
      if (!block(kind)) return false;
    }
  }
  return true;
}

}  // namespace softstair
