-- Have a prediction tried again; as a suspect, alone. Given: id, token, suspect.
-- Returns 1, or 0 where the lease is lost.
if not holds_lease(given.id, given.token) then return 0 end
redis.call('HDEL', KEY.prediction(given.id), 'lease_token')
send_back(given.id, given.suspect and 1 or 0)
return 1
