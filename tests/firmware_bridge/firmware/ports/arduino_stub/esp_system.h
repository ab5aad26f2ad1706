/* Of ESP-IDF 5. */
typedef enum { ESP_RST_INT_WDT = 5, ESP_RST_TASK_WDT, ESP_RST_WDT } esp_reset_reason_t;
extern "C" esp_reset_reason_t esp_reset_reason(void);
