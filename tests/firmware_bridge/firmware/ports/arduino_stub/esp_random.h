/* Of ESP-IDF 5. */
#include <stdint.h>
extern "C" uint32_t esp_random(void);
