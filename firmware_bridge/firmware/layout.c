/* Between structs and bytes: little endian, without padding, whatever the machine. */
#include "messages.h"

void fb_pack(const void *message, const fb_field *layout, uint8_t fields, uint8_t *at)
{
    for (; fields > 0; fields--, layout++) {
        const uint8_t *from = (const uint8_t *)message + layout->offset;
        for (uint8_t k = 0; k < layout->count; k++, from += layout->width) {
            uint64_t value = 0;
            switch (layout->width) {
            case 1: value = *from; break;
            case 2: value = *(const uint16_t *)(const void *)from; break;
            case 4: value = *(const uint32_t *)(const void *)from; break;
            case 8: value = *(const uint64_t *)(const void *)from; break;
            }
            for (uint8_t i = 0; i < layout->width; i++, value >>= 8) *at++ = (uint8_t)value;
        }
    }
}

void fb_unpack(void *message, const fb_field *layout, uint8_t fields, const uint8_t *at)
{
    for (; fields > 0; fields--, layout++) {
        uint8_t *to = (uint8_t *)message + layout->offset;
        for (uint8_t k = 0; k < layout->count; k++, to += layout->width) {
            uint64_t value = 0;
            for (uint8_t i = layout->width; i-- > 0;) value = value << 8 | at[i];
            at += layout->width;
            switch (layout->width) {
            case 1: *to = (uint8_t)value; break;
            case 2: *(uint16_t *)(void *)to = (uint16_t)value; break;
            case 4: *(uint32_t *)(void *)to = (uint32_t)value; break;
            case 8: *(uint64_t *)(void *)to = value; break;
            }
        }
    }
}
