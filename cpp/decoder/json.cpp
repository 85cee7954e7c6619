// SPDX-License-Identifier: Apache-2.0
#include "json.hpp"

#include <stdexcept>

#include "refuse.hpp"

namespace softstair {
namespace {

constexpr int kDeepest = 16;

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json whole() {
    Json value = this->value(0);
    space();
    if (at_ != text_.size()) fail();
    return value;
  }

 private:
  [[noreturn]] static void fail() { refuse("it is not JSON"); }

  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }
  char next() {
    space();
    if (at_ == text_.size()) fail();
    return text_[at_];
  }
  bool skip(char wanted) {
    if (next() != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!skip(wanted)) fail();
  }

  Json value(int depth) {
    if (depth > kDeepest) fail();
    Json result;
    switch (next()) {
      case '{':
        ++at_;
        result.kind = Json::Kind::object;
        if (skip('}')) return result;
        do {
          if (next() != '"') fail();
          std::string name = string();
          expect(':');
          if (!result.members.emplace(std::move(name), value(depth + 1)).second) fail();
        } while (skip(','));
        expect('}');
        return result;
      case '[':
        ++at_;
        result.kind = Json::Kind::list;
        if (skip(']')) return result;
        do result.items.push_back(value(depth + 1));
        while (skip(','));
        expect(']');
        return result;
      case '"':
        result.kind = Json::Kind::text;
        result.text = string();
        return result;
      default:
        return scalar();
    }
  }

  std::string string() {
    expect('"');
    std::string out;
    while (true) {
      if (at_ == text_.size()) fail();
      const char c = text_[at_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 32) fail();
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at_ == text_.size()) fail();
      const char escaped = text_[at_++];
      constexpr std::string_view kFrom = "\"\\/bfnrt", kTo = "\"\\/\b\f\n\r\t";
      if (escaped == 'u') {  // nothing that decides decoding is written so
        for (int i = 0; i < 4; ++i)
          if (at_ == text_.size() || std::string_view("0123456789abcdefABCDEF").find(text_[at_++]) == std::string_view::npos) fail();
        out += '?';
      } else if (const auto i = kFrom.find(escaped); i != std::string_view::npos) {
        out += kTo[i];
      } else {
        fail();
      }
    }
  }

  Json scalar() {
    for (const std::string_view word : {"true", "false", "null"})
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return {};
      }
    Json result;
    result.kind = Json::Kind::number;
    const bool negative = skip('-');
    int digits = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      if (++digits > 18) fail();
      result.number = 10 * result.number + (text_[at_++] - '0');
    }
    if (digits == 0) fail();
    if (negative) result.number = -result.number;
    while (at_ < text_.size() && std::string_view(".eE+-0123456789").find(text_[at_]) != std::string_view::npos) ++at_;
    return result;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

[[noreturn]] void wrong(const char* what) { refuse("it has no ", what, " where one belongs"); }

}  // namespace

Json Json::parse(std::string_view text) { return Parser(text).whole(); }

const Json* Json::find(std::string_view name) const {
  const auto found = object().find(name);
  return found == members.end() ? nullptr : &found->second;
}

const Json& Json::at(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) refuse("it has no ", std::string(name));
  return *found;
}

std::int64_t Json::integer() const {
  if (kind != Kind::number) wrong("number");
  return number;
}

const std::string& Json::string() const {
  if (kind != Kind::text) wrong("string");
  return text;
}

const std::vector<Json>& Json::list() const {
  if (kind != Kind::list) wrong("list");
  return items;
}

const std::map<std::string, Json, std::less<>>& Json::object() const {
  if (kind != Kind::object) wrong("object");
  return members;
}

std::vector<std::int32_t> Json::numbers() const {
  std::vector<std::int32_t> result;
  for (const Json& item : list()) {
    const std::int64_t value = item.integer();
    if (value != static_cast<std::int32_t>(value)) wrong("small number");
    result.push_back(static_cast<std::int32_t>(value));
  }
  return result;
}

}  // namespace softstair
