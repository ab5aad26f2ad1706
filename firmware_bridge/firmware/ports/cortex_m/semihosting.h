/* What a program without a serial line can tell whoever runs it. */
#ifndef FB_SEMIHOSTING_H
#define FB_SEMIHOSTING_H

#include <stdint.h>

void print(const char *text);
__attribute__((noreturn)) void leave(uint32_t code);

#endif
