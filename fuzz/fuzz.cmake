# SPDX-License-Identifier: Apache-2.0
# libFuzzer targets, under AddressSanitizer and UBSan; they need Clang.
set(fuzzed -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
target_compile_options(softstair_core PUBLIC ${fuzzed} -fsanitize=fuzzer-no-link)
target_link_options(softstair_core PUBLIC ${fuzzed})
foreach(name stream bundle tile exact)
  add_executable(fuzz_${name} fuzz/${name}.cpp)
  target_include_directories(fuzz_${name} PRIVATE fuzz cpp/tests)
  target_link_libraries(fuzz_${name} PRIVATE softstair_decoder)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
endforeach()
