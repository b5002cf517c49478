-- Users come into being when they first log in, as they do on a chatmail relay:
-- the local part has nine characters, the password at least as many. One
-- process runs this, so that of two first logins one creates the user.
local users = "{{.Dir}}/created/"

local function password_of(user)
  local f = io.open(users .. user, "r")
  if not f then return nil end
  local password = f:read("a")
  f:close()
  return password
end

function auth_passdb_lookup(req)
  local password = password_of(req.user)
  if password then return dovecot.auth.PASSDB_RESULT_OK, "password={PLAIN}" .. password end
  return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
end

function auth_password_verify(req, password)
  if not req.user:match("^[a-z0-9._-]+@[a-z0-9.-]+$") then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
  end
  local kept = password_of(req.user)
  if not kept then
    if #req.user:match("^[^@]+") ~= 9 or #password < 9 then
      return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "no such user"
    end
    local f = assert(io.open(users .. req.user, "w"))
    f:write(password)
    f:close()
    dovecot.i_info("created " .. req.user)
    kept = password
  end
  if kept == password then return dovecot.auth.PASSDB_RESULT_OK, {} end
  return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, "wrong password"
end

function auth_userdb_lookup(req)
  if password_of(req.user) then return dovecot.auth.USERDB_RESULT_OK, {} end
  return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "no such user"
end
