// SPDX-License-Identifier: BSD-2-Clause
// Storages, watches and the access log behind storage.sv and bench.sv; verilator.py uses it through ctypes.
// One machine a process, one thread. Bytes are little-endian, as is the host.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "svdpi.h"
#include "verilated.h"

namespace {

constexpr int MESSAGE_BYTES = 256;

// Shared with Python, which writes `target`, `started` and `reset`; the layout is that of verilator.py's _Control.
struct Control {
    uint64_t cycle;   // edges taken since reset
    uint64_t target;  // software runs when this cycle is reached
    uint32_t started;
    uint32_t reset;
    uint32_t hits;    // watches that wait to be collected
    uint32_t woken;   // a write of the edge just taken hit a watch, or an access failed
    char message[MESSAGE_BYTES];  // first failed access
};

struct Watch {
    int token;
    uint64_t start;
    uint64_t stop;
};

// The layout is that of verilator.py's ACCESS.
struct Access {
    uint64_t cycle;
    uint64_t address;
    uint32_t length;
    uint32_t is_write;
};

struct Storage {
    const char* name;
    uint8_t* bytes;
    uint64_t size;
    bool logged;
    std::vector<Watch> watches;
};

Control control;
std::vector<Storage> storages;
std::vector<int> hits;
std::vector<Access> accesses;
uint64_t last_beat[2];  // by direction: cycle of the last beat, and the open entry's place in `accesses` plus one
size_t open_entry[2];
int next_token;

uint64_t bits_below(uint64_t count) { return count >= 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1; }

// The word's bytes, or null: then the run ends.
uint8_t* locate(int number, int bytes, uint64_t address, const char* kind) {
    Storage& storage = storages[number];
    if (address % bytes == 0 && address < storage.size) return storage.bytes + address;
    if (!control.message[0]) {
        std::snprintf(control.message, MESSAGE_BYTES,
                      "Storage '%s' of %llu bytes: %s of %d bytes at address 0x%llx in cycle %llu", storage.name,
                      (unsigned long long)storage.size, kind, bytes, (unsigned long long)address,
                      (unsigned long long)control.cycle + 1);
    }
    control.woken = 1;
    return nullptr;
}

void log_access(bool is_write, uint64_t address, uint32_t length) {
    const uint64_t cycle = control.cycle + 1;
    size_t& open = open_entry[is_write];
    if (open && last_beat[is_write] + 1 == cycle) {
        Access& last = accesses[open - 1];
        if (last.address + last.length == address) {
            last.length += length;
            last_beat[is_write] = cycle;
            return;
        }
    }
    accesses.push_back({cycle, address, length, is_write});
    open = accesses.size();
    last_beat[is_write] = cycle;
}

const uint8_t* read(int number, int bytes, uint64_t address) {
    const uint8_t* word = locate(number, bytes, address, "read");
    if (word && storages[number].logged) log_access(false, address, bytes);
    return word;
}

void write(int number, int bytes, uint64_t address, const uint8_t* data, uint64_t strobe) {
    uint8_t* word = locate(number, bytes, address, "write");
    if (!word || !strobe) return;
    const uint64_t all = bits_below(bytes);
    if ((strobe & all) == all) {
        std::memcpy(word, data, bytes);
    } else {
        for (int lane = 0; lane < bytes; lane++)
            if (strobe >> lane & 1) word[lane] = data[lane];
    }
    Storage& storage = storages[number];
    if (storage.logged) {
        const int first = __builtin_ctzll(strobe);
        const int last = 63 - __builtin_clzll(strobe);
        log_access(true, address + first, last - first + 1);
    }
    for (const Watch& watch : storage.watches) {
        if (watch.stop <= address || watch.start >= address + bytes) continue;
        const uint64_t from = watch.start > address ? watch.start - address : 0;
        const uint64_t lanes = bits_below(watch.stop - address) & ~bits_below(from);
        if (!(strobe & lanes)) continue;
        control.woken = 1;
        if (std::find(hits.begin(), hits.end(), watch.token) == hits.end()) {
            hits.push_back(watch.token);
            control.hits = hits.size();
        }
    }
}

}  // namespace

// Verilator's own announces the end of every run on stdout.
void vl_finish(const char*, int, const char*) { Verilated::threadContextp()->gotFinish(true); }

extern "C" {

unsigned long long pagewheel_read(int number, int bytes, unsigned long long address) {
    uint64_t value = 0;
    if (const uint8_t* word = read(number, bytes, address)) std::memcpy(&value, word, bytes);
    return value;
}

void pagewheel_read_wide(int number, int bytes, unsigned long long address, svBitVecVal* data) {
    if (const uint8_t* word = read(number, bytes, address)) std::memcpy(data, word, bytes);
}

void pagewheel_write(int number, int bytes, unsigned long long address, unsigned long long data,
                     unsigned long long strobe) {
    write(number, bytes, address, reinterpret_cast<const uint8_t*>(&data), strobe);
}

void pagewheel_write_wide(int number, int bytes, unsigned long long address, const svBitVecVal* data,
                          unsigned long long strobe) {
    write(number, bytes, address, reinterpret_cast<const uint8_t*>(data), strobe);
}

svBit pagewheel_exchange(int number, int bytes, unsigned long long address, const svBitVecVal* data,
                         unsigned long long strobe, unsigned long long expected) {
    if (!strobe) return 0;
    const uint8_t* word = locate(number, bytes, address, "write");
    if (!word || std::memcmp(word + __builtin_ctzll(strobe) / 8 * 8, &expected, 8)) return 0;
    write(number, bytes, address, reinterpret_cast<const uint8_t*>(data), strobe);
    return 1;
}

svBit pagewheel_started() { return control.started; }

svBit pagewheel_reset() { return control.reset; }

svBit pagewheel_edge_taken() {
    control.cycle++;
    return control.woken || control.cycle >= control.target;
}

Control* pagewheel_control() { return &control; }

void pagewheel_bind(const char* name, uint8_t* bytes, uint64_t size, int logged) {
    storages.push_back({name, bytes, size, logged != 0, {}});
}

int pagewheel_watch(int number, uint64_t start, uint64_t stop) {
    storages[number].watches.push_back({next_token, start, stop});
    return next_token++;
}

int pagewheel_unwatch(int token) {
    hits.erase(std::remove(hits.begin(), hits.end(), token), hits.end());
    control.hits = hits.size();
    for (Storage& storage : storages) {
        auto& watches = storage.watches;
        const auto found =
            std::find_if(watches.begin(), watches.end(), [token](const Watch& watch) { return watch.token == token; });
        if (found == watches.end()) continue;
        watches.erase(found);
        return 1;
    }
    return 0;
}

// Takes `control.hits` tokens.
void pagewheel_collect_hits(int* tokens) {
    std::sort(hits.begin(), hits.end());
    std::copy(hits.begin(), hits.end(), tokens);
    hits.clear();
    control.hits = 0;
}

uint64_t pagewheel_access_count() { return accesses.size(); }

void pagewheel_collect_accesses(Access* out) {
    std::copy(accesses.begin(), accesses.end(), out);
    accesses.clear();
    open_entry[0] = open_entry[1] = 0;
}

// After an edge with `rst`.
void pagewheel_power_on() {
    for (Storage& storage : storages) storage.watches.clear();
    hits.clear();
    accesses.clear();
    open_entry[0] = open_entry[1] = 0;
    next_token = 0;
    control.cycle = control.target = 0;
    control.hits = control.woken = 0;
    control.message[0] = 0;
}

}  // extern "C"
