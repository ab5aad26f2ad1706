/* Between structs and bytes: little endian, without padding, whatever the machine. */
#include "frame.h"

void fb_put(uint8_t *at, uint64_t value, uint8_t bytes)
{
    for (; bytes > 0; bytes--, value >>= 8) *at++ = (uint8_t)value;
}

uint64_t fb_get(const uint8_t *at, uint8_t bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0) value = value << 8 | at[bytes];
    return value;
}

void fb_pack(const void *message, const fb_field *layout, uint8_t fields, uint8_t *at)
{
    for (; fields > 0; fields--, layout++) {
        const uint8_t *from = (const uint8_t *)message + layout->offset;
        for (uint8_t k = layout->count; k > 0; k--, from += layout->width, at += layout->width) {
            uint64_t value = *from;
            if (layout->width == 2) value = *(const uint16_t *)(const void *)from;
            if (layout->width == 4) value = *(const uint32_t *)(const void *)from;
            if (layout->width == 8) value = *(const uint64_t *)(const void *)from;
            fb_put(at, value, layout->width);
        }
    }
}

void fb_unpack(void *message, const fb_field *layout, uint8_t fields, const uint8_t *at)
{
    for (; fields > 0; fields--, layout++) {
        uint8_t *to = (uint8_t *)message + layout->offset;
        for (uint8_t k = layout->count; k > 0; k--, to += layout->width, at += layout->width) {
            uint64_t value = fb_get(at, layout->width);
            if (layout->width == 1) *to = (uint8_t)value;
            if (layout->width == 2) *(uint16_t *)(void *)to = (uint16_t)value;
            if (layout->width == 4) *(uint32_t *)(void *)to = (uint32_t)value;
            if (layout->width == 8) *(uint64_t *)(void *)to = value;
        }
    }
}
