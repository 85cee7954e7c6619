// SPDX-License-Identifier: Apache-2.0
// As much of JSON as bundles hold: objects, lists, strings, whole numbers.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace softstair {

struct Json {
  enum class Kind { nothing, number, text, list, object };

  // Throws std::invalid_argument unless the text is one value. Numbers with fractions are truncated.
  static Json parse(std::string_view text);

  Kind kind = Kind::nothing;
  std::int64_t number = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json, std::less<>> members;

  // These throw std::invalid_argument where the value is of another kind.
  const Json* find(std::string_view name) const;  // null if there is none
  const Json& at(std::string_view name) const;
  std::int64_t integer() const;
  const std::string& string() const;
  const std::vector<Json>& list() const;
  const std::map<std::string, Json, std::less<>>& object() const;
  std::vector<std::int32_t> numbers() const;  // a list of them
};

}  // namespace softstair
