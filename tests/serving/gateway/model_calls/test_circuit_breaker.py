"""Circuit breaker and token bucket with a fake clock."""

from serving.gateway.model_calls.circuit_breaker import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    BreakerPolicy,
    CircuitBreaker,
    TokenBucket,
)


def test_breaker_opens_after_failures_and_closes_after_a_success():
    now = 0.0
    breaker = CircuitBreaker(BreakerPolicy(failures=2, seconds=10), lambda: now)
    assert breaker.wait() == 0
    breaker.record_failure()
    breaker.record_success()
    breaker.record_failure()
    assert breaker.state == CLOSED
    breaker.record_failure()
    assert breaker.state == OPEN and breaker.wait() == 10
    now = 9.999
    assert breaker.wait() > 0
    assert breaker.state == OPEN
    now = 10
    assert breaker.state == HALF_OPEN  # a trial may pass, though none has come
    assert breaker.wait() == 0 and breaker.state == HALF_OPEN and breaker.wait() == 10  # one trial at a time
    breaker.record_failure()
    assert breaker.state == OPEN and breaker.wait() == 10
    now = 20
    assert breaker.wait() == 0
    breaker.record_success()
    assert breaker.state == CLOSED and breaker.wait() == 0


def test_token_bucket_refills_at_its_rate():
    now = 0.0
    bucket = TokenBucket(2.0, 3, lambda: now)
    assert [bucket.wait() for _ in range(4)] == [0, 0, 0, 0.5]
    now = 0.5
    assert [bucket.wait() for _ in range(2)] == [0, 0.5]
    now = 100.0
    assert [bucket.wait() for _ in range(4)] == [0, 0, 0, 0.5]
    assert not any(TokenBucket(0, 1, lambda: now).wait() for _ in range(100))
