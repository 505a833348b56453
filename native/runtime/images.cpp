#include "images.h"

// images.inc has one line IMAGE(family, target, "file") for each image.
// NOTE: 4096 is what a loader may map in place; the zero byte ends PTX, which is text.
#define IMAGE(family, target, file)                                         \
  asm(".pushsection .rodata.images, \"a\"\n.balign 4096\n"                    \
      "octet_image_" #family "_" #target ":\n.incbin \"" file "\"\n"           \
      "octet_image_end_" #family "_" #target ":\n.byte 0\n.popsection");       \
  extern "C" __attribute__((visibility("hidden"))) const char octet_image_##family##_##target[]; \
  extern "C" __attribute__((visibility("hidden"))) const char octet_image_end_##family##_##target[];
#include "images.inc"
#undef IMAGE

namespace octet {

const Image images[] = {
#define IMAGE(family, target, file)            \
  {#family, #target, octet_image_##family##_##target, \
   static_cast<size_t>(octet_image_end_##family##_##target - octet_image_##family##_##target)},
#include "images.inc"
#undef IMAGE
    {nullptr, nullptr, nullptr, 0},
};

}  // namespace octet
