-- Create a prediction and have it wait for its tenant's turn: both or neither.
-- Given: id, kind, owner, digest, idempotency_key ('' for none), remember_seconds, max_queued, max_stored_bytes (-1 for no
-- limit), queue, take_offered (whether a prediction that was offered to an identical request will do), fields (a flat
-- list), seconds (of music), priority, cancel_after (in seconds; 0 for never), weight and limits of the tenant, negative
-- for none: running_limit, waiting_limit, day_limit.
-- Returns {outcome, flat record, queue position or -1, seconds until the outcome can be another}.
local id, owner, digest, queue = given.id, given.owner, given.digest, given.queue
local key, memory = KEY.prediction(id), KEY.idempotency(owner, given.idempotency_key)

local function exists(prediction) return redis.call('EXISTS', KEY.prediction(prediction)) == 1 end

local function answer(outcome, prediction, again)
  return { outcome, redis.call('HGETALL', KEY.prediction(prediction)), position(prediction), again or 0 }
end

if given.idempotency_key ~= '' then
  local known = redis.call('HMGET', memory, 'id', 'digest')
  -- The prediction may have been deleted since.
  if known[1] and exists(known[1]) then
    return answer(known[2] == digest and OUTCOME.replayed or OUTCOME.mismatch, known[1])
  end
end
if given.take_offered then
  local offered = chosen_before(id) or redis.call('LPOP', KEY.offered(owner, digest))
  if offered and exists(offered) then
    remember_choice(id, offered)
    return answer(OUTCOME.replayed, offered)
  end
end
if exists(id) then
  local known = redis.call('HMGET', key, 'owner', 'digest')
  return answer(known[1] == owner and known[2] == digest and OUTCOME.replayed or OUTCOME.conflict, id)
end

-- Also where nothing is accepted: a tenant whose limits were raised may have to run something before it can be.
keep_share(owner, given.weight, given.running_limit)
local time = clock()
if given.max_stored_bytes >= 0 and stored_bytes(owner) >= given.max_stored_bytes then
  return answer(OUTCOME.storage_full, id)
end
if given.waiting_limit >= 0 and count_waiting(owner) >= given.waiting_limit then
  return answer(OUTCOME.tenant_full, id)
end
if given.day_limit >= 0 then
  local again = seconds_until_accepted(owner, given.seconds, given.day_limit, time)
  if again > 0 then return answer(OUTCOME.used_up, id, again) end
end
if redis.call('HLEN', KEY.waiting(queue)) >= given.max_queued then return answer(OUTCOME.full, id) end

if given.day_limit >= 0 then count_accepted(owner, given.seconds, time) end
redis.call('HSET', key, 'id', id, 'owner', owner, 'digest', digest, 'status', STATUS.starting, 'attempt', 0,
  'created_at', time, 'queue', queue, unpack(given.fields))
redis.call('SADD', KEY.queues, queue)
redis.call('HINCRBY', KEY.counts(queue), 'accepted', 1)
redis.call('ZADD', list_of(owner, given.kind), time, id)
if given.idempotency_key ~= '' then
  redis.call('HSET', memory, 'id', id, 'digest', digest)
  redis.call('EXPIRE', memory, given.remember_seconds)
end
if given.cancel_after > 0 then redis.call('ZADD', KEY.deadlines, time + given.cancel_after, id) end
wait_for_turn(queue, owner, id, given.seconds, given.priority, time)
announce(id, 'LPUSH')
emit(id, EVENT.status, STATUS.starting)
return answer(OUTCOME.created, id)
