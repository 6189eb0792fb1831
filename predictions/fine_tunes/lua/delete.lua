-- Delete a fine-tune without versions. Given: name, owner.
-- Returns 1, 0 where there is no such fine-tune of the owner, -1 where it has versions.
local key = KEY.fine_tune(given.name)
if redis.call('HGET', key, 'owner') ~= given.owner then return 0 end
if redis.call('EXISTS', KEY.fine_tune_versions(given.name)) == 1 then return -1 end
redis.call('SREM', KEY.owner_fine_tunes(given.owner), given.name)
redis.call('SREM', KEY.public_fine_tunes, given.name)
return redis.call('DEL', key)
