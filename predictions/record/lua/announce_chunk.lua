-- Announce a chunk of audio that is stored. Given: id, token, index (its number, from 0), chunk (as JSON).
-- Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.token) then return 0 end
local key = KEY.prediction(given.id)
-- Announced already: this is a repetition.
if tonumber(redis.call('HGET', key, 'live_chunks') or 0) > given.index then return 1 end
redis.call('HSET', key, 'live_chunks', given.index + 1)
emit(given.id, EVENT.audio, given.chunk)
return 1
