// Ranks that find each other over TCP, here threads of one process.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "engine/ranks/gradient_sum.h"
#include "engine/ranks/tcp_ranks.h"
#include "io/support/error.h"

namespace moleblend {
namespace {

/// A port of this machine that nobody listens on.
std::uint16_t free_port() {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof a;
  EXPECT_EQ(::bind(s, reinterpret_cast<sockaddr*>(&a), length), 0);
  EXPECT_EQ(::getsockname(s, reinterpret_cast<sockaddr*>(&a), &length), 0);
  ::close(s);
  return ntohs(a.sin_port);
}

/// What each of `size` ranks throws as Error, by rank; empty where it ends well.
std::vector<std::string> run(int size, double deadline_s, const std::function<void(const TcpPlace&)>& work) {
  const std::uint16_t port = free_port();
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        work({.rank = rank, .size = size, .host = "127.0.0.1", .port = port, .job = "test", .deadline_s = deadline_s});
      } catch (const Error& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  threads.clear();
  return errors;
}

void expect_none(const std::vector<std::string>& errors) {
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(TcpRanks, SumsAndTextsGoToAll) {
  for (const int size : {2, 3, 5})
    expect_none(run(size, 60, [&](const TcpPlace& place) {
      const std::unique_ptr<Ranks> ranks = make_tcp_ranks(place);
      EXPECT_EQ(ranks->rank(), place.rank);
      EXPECT_EQ(ranks->size(), size);
      const std::vector<std::string> texts = ranks->gather(std::string(static_cast<std::size_t>(place.rank) * 7, 'x'));
      for (std::size_t r = 0; r < texts.size(); ++r) EXPECT_EQ(texts[r], std::string(7 * r, 'x'));
      // More than the sockets hold at once, in both forms of a sum.
      for (const std::size_t count : {1u, 100u, 3'000'001u}) {
        std::vector<float> values(count, static_cast<float>(place.rank + 1));
        ranks->sum(std::span(values));
        const auto expected = static_cast<float>(size * (size + 1) / 2);
        EXPECT_TRUE(std::all_of(values.begin(), values.end(), [&](float v) { return v == expected; })) << count;
      }
    }));
}

TEST(TcpRanks, GradientsAreSummedBesideOtherWork) {
  std::vector<std::vector<float>> results(3);
  expect_none(run(3, 60, [&](const TcpPlace& place) {
    const std::unique_ptr<Ranks> ranks = make_tcp_ranks(place);
    std::vector<float> gradient(10'000, 0.1f * static_cast<float>(place.rank + 1));
    {
      const auto sum = make_gradient_sum<float>(*ranks, gradient, 900);
      sum->ready(5000);
      sum->finish();
    }
    results[static_cast<std::size_t>(place.rank)] = gradient;
  }));
  EXPECT_FLOAT_EQ(results[0][0], 0.6f);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(TcpRanks, ARankThatDoesNotComeIsToldByTheDeadline) {
  const std::vector<std::string> errors = run(3, 0.5, [](const TcpPlace& place) {
    if (place.rank != 2) make_tcp_ranks(place);
  });
  EXPECT_NE(errors[0].find("1 of 3 ranks have not called rank 0 within 0.5 s"), std::string::npos) << errors[0];
  EXPECT_NE(errors[1], "");
}

TEST(TcpRanks, ARankThatIsGoneEndsTheOthers) {
  const std::vector<std::string> errors = run(3, 60, [](const TcpPlace& place) {
    const std::unique_ptr<Ranks> ranks = make_tcp_ranks(place);
    ranks->gather("");
    if (place.rank == 1) throw Error("of its own");
    std::vector<double> values(10);
    for (;;) ranks->sum(std::span(values));
  });
  EXPECT_EQ(errors[1], "of its own");
  // Who hears of it first ends, which the other may hear first.
  for (const int rank : {0, 2}) EXPECT_NE(errors[static_cast<std::size_t>(rank)].find("is gone"), std::string::npos);
}

TEST(TcpRanks, ARankThatHangsEndsTheOthersByTheDeadline) {
  const std::vector<std::string> errors = run(2, 0.3, [](const TcpPlace& place) {
    const std::unique_ptr<Ranks> ranks = make_tcp_ranks(place);
    if (place.rank == 1) return std::this_thread::sleep_for(std::chrono::seconds(2));
    double value = 1;
    ranks->sum(std::span(&value, 1));
  });
  EXPECT_NE(errors[0].find("no answer from another rank for 0.3 s"), std::string::npos) << errors[0];
}

TEST(TcpRanks, StrangersAreHungUpOn) {
  expect_none(run(2, 60, [](const TcpPlace& place) {
    if (place.rank == 1) {
      // Before the right one comes: somebody who says nothing of use, and a rank of another job.
      const auto connect = [&] {
        for (;;) {
          const int s = ::socket(AF_INET, SOCK_STREAM, 0);
          sockaddr_in a{};
          a.sin_family = AF_INET;
          a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
          a.sin_port = htons(place.port);
          if (::connect(s, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0) return s;
          ::close(s);
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
      };
      const int s = connect();
      const std::string words(200, 'G');
      EXPECT_GT(::send(s, words.data(), words.size(), MSG_NOSIGNAL), 0);
      char answer = 0;
      EXPECT_LE(::recv(s, &answer, 1, 0), 0);
      ::close(s);
      TcpPlace other = place;
      other.job = "another";
      other.deadline_s = 0.3;
      EXPECT_THROW(make_tcp_ranks(other), Error);
    }
    const std::unique_ptr<Ranks> ranks = make_tcp_ranks(place);
    EXPECT_EQ(ranks->gather(std::to_string(place.rank)), (std::vector<std::string>{"0", "1"}));
  }));
}

TEST(TcpRanks, APortThatIsTakenIsNamed) {
  const int s = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 a{};
  a.sin6_family = AF_INET6;
  socklen_t length = sizeof a;
  ASSERT_EQ(::bind(s, reinterpret_cast<sockaddr*>(&a), length), 0);
  ASSERT_EQ(::listen(s, 1), 0);
  ASSERT_EQ(::getsockname(s, reinterpret_cast<sockaddr*>(&a), &length), 0);
  const std::uint16_t port = ntohs(a.sin6_port);
  try {
    make_tcp_ranks({.rank = 0, .size = 2, .host = "127.0.0.1", .port = port, .job = "test", .deadline_s = 1});
    FAIL() << "a port with another listener was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("TCP port " + std::to_string(port)), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("MASTER_PORT"), std::string::npos) << error.what();
  }
  ::close(s);
}

TEST(TcpRanks, HostsAreReadAsSlurmWritesThem) {
  EXPECT_EQ(first_host("node01"), "node01");
  EXPECT_EQ(first_host("node01,node02"), "node01");
  EXPECT_EQ(first_host("node[07-12,20],login1"), "node07");
  EXPECT_EQ(first_host("node[7,9]"), "node7");
  EXPECT_EQ(first_host("gpu-[003]-ib,other"), "gpu-003-ib");
  EXPECT_EQ(first_host("login1,node[07-12]"), "login1");
}

/// The environment of a process that something has started as one of many.
class TcpEnvironment : public ::testing::Test {
 protected:
  TcpEnvironment() { clear(); }
  ~TcpEnvironment() override { clear(); }
  static void clear() {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID",
                             "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST", "TORCHELASTIC_RUN_ID"})
      ::unsetenv(name);
  }
  static void set(std::initializer_list<std::pair<const char*, const char*>> variables) {
    for (const auto& [name, value] : variables) ::setenv(name, value, 1);
  }
};

TEST_F(TcpEnvironment, OneProcessIsAlone) {
  TcpPlace place;
  EXPECT_FALSE(find_tcp_place(place));
  set({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_ADDR", "here"}, {"MASTER_PORT", "29500"}});
  EXPECT_FALSE(find_tcp_place(place));
  clear();
  set({{"RANK", "1"}, {"WORLD_SIZE", "4"}});  // of something else
  EXPECT_FALSE(find_tcp_place(place));
  clear();
  set({{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}});
  EXPECT_FALSE(find_tcp_place(place));
}

TEST_F(TcpEnvironment, TorchrunsVariablesAndSlurmsAreUnderstood) {
  TcpPlace place;
  set({{"SLURM_STEP_NUM_TASKS", "8"},
       {"SLURM_PROCID", "5"},
       {"SLURM_JOB_ID", "4711"},
       {"SLURM_STEP_ID", "2"},
       {"SLURM_STEP_NODELIST", "node[03-04]"}});
  ASSERT_TRUE(find_tcp_place(place));
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 8);
  EXPECT_EQ(place.host, "node03");
  EXPECT_GE(place.port, 15000);
  EXPECT_LT(place.port, 30000);
  EXPECT_EQ(place.job, "slurm 4711.2");
  set({{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "head"}, {"MASTER_PORT", "29500"}});
  ASSERT_TRUE(find_tcp_place(place));
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.size, 4);
  EXPECT_EQ(place.host, "head");
  EXPECT_EQ(place.port, 29500);
}

TEST_F(TcpEnvironment, WhatCantBeIsRefused) {
  TcpPlace place;
  set({{"RANK", "4"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "head"}, {"MASTER_PORT", "29500"}});
  EXPECT_THROW(find_tcp_place(place), Error);
  set({{"RANK", "one"}});
  EXPECT_THROW(find_tcp_place(place), Error);
  set({{"RANK", "1"}, {"MASTER_PORT", "70000"}});
  EXPECT_THROW(find_tcp_place(place), Error);
}

}  // namespace
}  // namespace moleblend
