-- A fine-tune. Given: name. Returns {flat record, versions}; nothing where there is no such fine-tune.
local record = redis.call('HGETALL', KEY.fine_tune(given.name))
if #record == 0 then return false end
return { record, redis.call('HGETALL', KEY.fine_tune_versions(given.name)) }
