-- Create a prediction and enqueue it: both or neither. `record` has its fields; an `idempotency_key` of '' is none.
-- Returns {outcome, flat record, queue position or -1}.
local id, owner, digest, queue = given.record.id, given.record.owner, given.record.digest, given.record.queue
local key, memory = KEY.prediction(id), KEY.idempotency(owner, given.idempotency_key)

local function answer(outcome, known_id)
  return { outcome, redis.call('HGETALL', KEY.prediction(known_id)), position(known_id) }
end

if given.idempotency_key ~= '' then
  local known = redis.call('HMGET', memory, 'id', 'digest')
  -- A remembered prediction may have been deleted since.
  if known[1] and redis.call('EXISTS', KEY.prediction(known[1])) == 1 then
    return answer(known[2] == digest and OUTCOME.replayed or OUTCOME.mismatch, known[1])
  end
end
if given.take_offered then
  local offered = redis.call('LPOP', KEY.offered(owner, digest))
  if offered and redis.call('EXISTS', KEY.prediction(offered)) == 1 then return answer(OUTCOME.replayed, offered) end
end
if redis.call('EXISTS', key) == 1 then
  local known = redis.call('HMGET', key, 'owner', 'digest')
  return answer(known[1] == owner and known[2] == digest and OUTCOME.replayed or OUTCOME.conflict, id)
end
if redis.call('ZCARD', KEY.queued(queue)) >= given.max_queued then return answer(OUTCOME.full, id) end

local time = clock()
set(key, given.record)
redis.call('HSET', key, 'status', STATUS.starting, 'attempt', 0, 'created_at', time)
redis.call('SADD', KEY.queues, queue)
redis.call('ZADD', KEY.owner(owner), time, id)
if given.idempotency_key ~= '' then
  redis.call('HSET', memory, 'id', id, 'digest', digest)
  redis.call('EXPIRE', memory, given.remember_seconds)
end
enqueue(id, 'LPUSH')
emit(id, EVENT.status, STATUS.starting)
return answer(OUTCOME.created, id)
