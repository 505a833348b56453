// The device code inside this library: one image for each kernel family and GPU target.
#pragma once

#include <cstddef>

namespace octet {

struct Image {
  const char* family;
  const char* target;  // "gfx942", "gfx950": a code object; "sm_90": PTX, ended by a zero byte
  const void* data;
  size_t size;
};

// All images, ended by one without a family.
extern const Image images[];

}  // namespace octet
