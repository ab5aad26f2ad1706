/* Of ESP-IDF 5. */
#include <stdint.h>
typedef struct {
    uint32_t timeout_ms, idle_core_mask;
    bool trigger_panic;
} esp_task_wdt_config_t;
extern "C" int esp_task_wdt_reconfigure(const esp_task_wdt_config_t *config);
extern "C" int esp_task_wdt_add(void *task);
extern "C" int esp_task_wdt_reset(void);
