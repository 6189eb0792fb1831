-- Bring back predictions whose lease or message was lost.
-- Given: max_attempts, requeue_after_seconds, limit (for each queue), error (with %d for the attempts made).
-- Returns {requeued after a lost lease, failed for good, enqueued again after a lost message}.
local time = clock()
local requeued, failed, hinted = 0, 0, 0

for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.leases, '-inf', time, 'LIMIT', 0, given.limit)) do
  local key = KEY.prediction(id)
  local attempt = tonumber(redis.call('HGET', key, 'attempt') or 0)
  drop_lease(id)
  if attempt >= given.max_attempts then
    redis.call('HSET', key, 'error', string.format(given.error, attempt))
    end_prediction(id, STATUS.failed, {})
    failed = failed + 1
  elseif attempt > 0 then
    redis.call('HSET', key, 'status', STATUS.starting)
    redis.call('HDEL', key, 'progress')
    emit(id, EVENT.status, STATUS.starting)
    enqueue(id, 'RPUSH')
    requeued = requeued + 1
  end
end

-- One queue at a time: what waits for a model without workers must not hide what the other queues lost.
local before = time - given.requeue_after_seconds
for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.queued(queue), '-inf', before, 'LIMIT', 0, given.limit)) do
    -- A message that is still in the list only waits its turn. A second one would do no harm, but they would pile up.
    local enqueued_at = tonumber(redis.call('HGET', KEY.prediction(id), 'enqueued_at'))
    if enqueued_at < before and not redis.call('LPOS', queue, generation_message(id)) then
      enqueue(id, 'RPUSH')
      hinted = hinted + 1
    end
  end
end
return { requeued, failed, hinted }
