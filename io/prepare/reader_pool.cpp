#include "io/prepare/reader_pool.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "io/prepare/wire.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

constexpr std::uint64_t kMaxBytesInFlight = 256u << 20;
constexpr std::size_t kMaxUnitsInFlight = 1024;
constexpr std::size_t kMaxOutcomesAhead = 4096;  // of a file whose turn has not come
constexpr std::uint64_t kMaxMessageBytes = 1u << 30;
constexpr int kMaxDeathsWithoutWork = 5, kMaxDeathsOnFile = 3;
constexpr std::int64_t kCheckInterval = 20'000'000;  // ns between looks at the readers' clocks
constexpr int kPollMilliseconds = 25;
// A reader that sleeps uses no processor time, so there is a bound on the wall clock too; a wide one, for a reader on a busy machine is
// slow and not to blame.
constexpr double kWallFactor = 3, kWallSeconds = 2;

}  // namespace

struct ReaderPool::SharedStates {
  explicit SharedStates(std::size_t count) : bytes(count * sizeof(ReaderState)) {
    memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      throw Error("can't share memory with the reader processes: {}; use fewer --workers", std::strerror(errno));
    states = static_cast<ReaderState*>(memory);
    for (std::size_t i = 0; i < count; ++i) new (states + i) ReaderState;
  }
  ~SharedStates() { ::munmap(memory, bytes); }
  SharedStates(const SharedStates&) = delete;
  SharedStates& operator=(const SharedStates&) = delete;

  std::size_t bytes;
  void* memory = nullptr;
  ReaderState* states = nullptr;
};

ReaderPool::ReaderPool(Chemistry& chemistry, ReaderOptions reader, PoolOptions options)
    : chemistry_(chemistry),
      reader_(std::move(reader)),
      options_(options),
      states_(std::make_unique<SharedStates>(static_cast<std::size_t>(options.workers))),
      workers_(static_cast<std::size_t>(options.workers)) {
  for (std::size_t i = 0; i < workers_.size(); ++i) workers_[i].state = states_->states + i;
}

ReaderPool::~ReaderPool() {
  for (Worker& worker : workers_) stop(worker);
}

void ReaderPool::start(Worker& worker) {
  worker.process = start_reader(chemistry_, reader_, options_.memory_bytes, *worker.state);
  worker.input.clear();
  worker.out_of_time.reset();
  ++started_;
}

void ReaderPool::stop(Worker& worker) {
  if (worker.process.pid < 0) return;
  ::kill(worker.process.pid, SIGKILL);
  while (::waitpid(worker.process.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  ::close(worker.process.socket);
  worker.process = {};
}

void ReaderPool::submit(std::vector<Record> records) {
  if (records.empty()) return;
  auto unit = std::make_unique<Unit>();
  bool all_settled = true;
  for (Record& record : records) {
    unit->bytes += sizeof(Record) + record.text.size();
    std::optional<Outcome>& outcome = unit->outcomes.emplace_back();
    if (record.skipped || !record.refused.empty())
      outcome = Outcome{.kept = false, .molecule = {}, .reason = record.refused};
    else
      all_settled = false;
  }
  unit->records = std::move(records);
  unit->complete = all_settled;
  bytes_in_flight_ += unit->bytes;
  if (!all_settled) waiting_.push_back(unit.get());
  units_.push_back(std::move(unit));
}

void ReaderPool::submit_file(std::uint32_t file, std::string path, std::string format) {
  auto unit = std::make_unique<Unit>();
  unit->is_file = true;
  unit->file = file;
  unit->path = std::move(path);
  unit->format = std::move(format);
  waiting_.push_back(unit.get());
  units_.push_back(std::move(unit));
}

bool ReaderPool::hungry() const {
  return waiting_.size() < 2 * workers_.size() && units_.size() < kMaxUnitsInFlight &&
         bytes_in_flight_ < kMaxBytesInFlight;
}

bool ReaderPool::ready() const {
  if (units_.empty()) return false;
  const Unit& front = *units_.front();
  return !front.outcomes.empty() && front.outcomes.front().has_value();
}

bool ReaderPool::next(Record& record, Outcome& outcome) {
  while (true) {
    while (!units_.empty()) {
      Unit& front = *units_.front();
      if (front.outcomes.empty() && front.complete) {
        bytes_in_flight_ -= front.bytes;
        units_.pop_front();
        continue;
      }
      if (front.outcomes.empty() || !front.outcomes.front()) break;
      outcome = std::move(*front.outcomes.front());
      front.outcomes.pop_front();
      if (front.is_file) {
        record.clear();
        record.file = front.file;
        record.number = front.delivered;
        record.format = front.format;
        record.identifier = outcome.molecule.identifier;
      } else {
        record = std::move(front.records[front.delivered]);
      }
      ++front.delivered;
      return true;
    }
    if (units_.empty()) return false;
    if (options_.stop != nullptr && *options_.stop != 0)
      throw Interrupted("stopped by signal {} before the end; what is finished is kept, go on with --resume",
                        options_.stop->load());
    pump();
  }
}

void ReaderPool::hand_out() {
  for (Worker& worker : workers_) {
    if (waiting_.empty()) return;
    if (worker.unit != nullptr) continue;
    if (worker.process.pid < 0) start(worker);
    Unit& unit = *waiting_.front();
    waiting_.pop_front();
    send(worker, unit);
  }
}

void ReaderPool::send(Worker& worker, Unit& unit) {
  Packer message;
  message.put(std::uint64_t{0});
  if (unit.is_file) {
    message.put(RequestKind::file);
    message.put(unit.file);
    message.put(unit.path);
    message.put(unit.format);
    message.put(unit.answered());
    message.put<std::uint8_t>(unit.deaths > 0);
  } else {
    message.put(RequestKind::records);
    const std::size_t count_at = message.bytes().size();
    message.put(std::uint64_t{0});
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < unit.outcomes.size(); ++i) {
      const std::uint64_t index = unit.delivered + i;
      if (unit.outcomes[i] || (unit.suspect && *unit.suspect != index)) continue;
      message.put(index);
      pack(message, unit.records[index]);
      ++count;
    }
    std::memcpy(message.bytes().data() + count_at, &count, sizeof(count));
  }
  const std::uint64_t length = message.bytes().size() - sizeof(std::uint64_t);
  std::memcpy(message.bytes().data(), &length, sizeof(length));
  worker.unit = &unit;
  send_bytes(worker, message.bytes());
}

void ReaderPool::send_bytes(Worker& worker, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(worker.process.socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // it died: pump() finds that out
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool ReaderPool::may_receive(const Worker& worker) const {
  if (worker.unit == nullptr) return false;
  return !worker.unit->is_file || worker.unit == units_.front().get() ||
         worker.unit->outcomes.size() < kMaxOutcomesAhead;
}

void ReaderPool::pump() {
  hand_out();
  std::vector<pollfd> polled;
  std::vector<Worker*> listening;
  for (Worker& worker : workers_)
    if (may_receive(worker)) {
      polled.push_back({worker.process.socket, POLLIN, 0});
      listening.push_back(&worker);
    }
  if (::poll(polled.data(), polled.size(), kPollMilliseconds) > 0)
    for (std::size_t i = 0; i < polled.size(); ++i)
      if (polled[i].revents != 0 && !receive(*listening[i])) handle_death(*listening[i]);
  if (wall_time() - last_check_ > kCheckInterval) check_deadlines();
}

/// Reads what is there. False if the reader is gone.
bool ReaderPool::receive(Worker& worker) {
  char buffer[1 << 16];
  const ssize_t got = ::recv(worker.process.socket, buffer, sizeof(buffer), 0);
  if (got < 0) return errno == EINTR || errno == EAGAIN;
  if (got == 0) return false;
  worker.input.append(buffer, static_cast<std::size_t>(got));
  take_answers(worker);
  return true;
}

void ReaderPool::take_answers(Worker& worker) {
  std::size_t at = 0;
  const std::string& input = worker.input;
  try {
    std::uint64_t length = 0;
    while (worker.unit != nullptr && input.size() - at >= sizeof(length)) {
      std::memcpy(&length, input.data() + at, sizeof(length));
      if (length > kMaxMessageBytes) throw std::out_of_range("message too long");
      if (input.size() - at - sizeof(length) < length) break;
      Unpacker message(std::string_view(input).substr(at + sizeof(length), length));
      at += sizeof(length) + length;
      AnswerKind kind{};
      std::uint64_t index = 0;
      message.get(kind);
      message.get(index);
      Unit& unit = *worker.unit;
      if (kind == AnswerKind::done) {
        worker.unit = nullptr;
        deaths_without_work_ = 0;
        unit.suspect.reset();
        const bool unfinished =
            std::any_of(unit.outcomes.begin(), unit.outcomes.end(), [](const auto& o) { return !o; });
        unit.complete = !unfinished;
        if (unfinished) send(worker, unit);  // the suspect was read alone; now the others
        continue;
      }
      Outcome outcome;
      outcome.kept = kind == AnswerKind::kept;
      if (outcome.kept)
        unpack(message, outcome.molecule);
      else
        message.get(outcome.reason);
      settle(unit, index, std::move(outcome));
    }
  } catch (const std::out_of_range&) {
    // Nonsense instead of answers: its memory is spoilt. Ended like this it counts as dead on the record that it is at.
    ::kill(worker.process.pid, SIGKILL);
    at = input.size();
  }
  worker.input.erase(0, at);
}

void ReaderPool::settle(Unit& unit, std::uint64_t index, Outcome outcome) {
  if (unit.is_file && index == unit.answered()) unit.outcomes.emplace_back();
  if (index < unit.delivered || index - unit.delivered >= unit.outcomes.size())
    throw std::out_of_range("no such record");
  unit.outcomes[index - unit.delivered] = std::move(outcome);
}

void ReaderPool::reject(Unit& unit, std::uint64_t index, std::string reason) {
  if (unit.is_file) {
    // The reader can't be brought past the place where it died.
    settle(unit, unit.answered(),
           Outcome{.kept = false, .molecule = {}, .reason = reason + "; the file's rest is lost"});
    unit.complete = true;
    return;
  }
  settle(unit, index, Outcome{.kept = false, .molecule = {}, .reason = std::move(reason)});
  unit.suspect.reset();
  unit.complete = std::all_of(unit.outcomes.begin(), unit.outcomes.end(), [](const auto& o) { return o.has_value(); });
}

std::string ReaderPool::death_reason(const Worker& worker, int status) const {
  if (worker.state->out_of_memory != 0)
    return fmt::format("needed more than {} MB of memory", options_.memory_bytes >> 20);
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    if (number == SIGKILL) return "the system killed the reader process (is the machine out of memory?)";
    return fmt::format("Open Babel crashed (signal {}: {})", number, ::strsignal(number));
  }
  return fmt::format("Open Babel ended the reader process (exit status {})", WEXITSTATUS(status));
}

void ReaderPool::handle_death(Worker& worker) {
  int status = 0;
  while (::waitpid(worker.process.pid, &status, 0) < 0 && errno == EINTR) {
  }
  ::close(worker.process.socket);
  worker.process = {};
  Unit* unit = std::exchange(worker.unit, nullptr);
  const std::uint64_t current = worker.state->current;
  const std::string reason = death_reason(worker, status);
  const std::optional<std::uint64_t> out_of_time = worker.out_of_time;
  start(worker);
  if (current == 0) {
    if (++deaths_without_work_ > kMaxDeathsWithoutWork)
      throw Error("the reader processes die without reading anything: {}; give them more --memory", reason);
  } else if (out_of_time && *out_of_time == current - 1) {
    reject(*unit, current - 1, fmt::format("took longer than {} s", options_.seconds));
  } else if (!out_of_time) {
    ++unit->deaths;
    const bool again = unit->suspect == current - 1 || (unit->is_file && unit->deaths >= kMaxDeathsOnFile);
    if (again)
      reject(*unit, current - 1, reason);
    else
      unit->suspect = current - 1;
  }
  if (!unit->complete) send(worker, *unit);
}

void ReaderPool::check_deadlines() {
  last_check_ = wall_time();
  const auto limit = static_cast<std::int64_t>(options_.seconds * 1e9);
  for (Worker& worker : workers_) {
    if (worker.unit == nullptr || worker.out_of_time) continue;
    const std::uint64_t current = worker.state->current;
    if (current == 0) continue;
    const std::int64_t used = cpu_time_of(worker.process.pid) - worker.state->cpu_start;
    const std::int64_t waited = last_check_ - worker.state->wall_start;
    if (used <= limit && waited <= static_cast<std::int64_t>((kWallFactor * options_.seconds + kWallSeconds) * 1e9))
      continue;
    // The clocks are those of `current` only if it is still at work; if it has just gone on, the record after it starts anew.
    if (worker.state->current != current) continue;
    worker.out_of_time = current - 1;
    ::kill(worker.process.pid, SIGKILL);
  }
}

}  // namespace moleblend
