-- Transactions: what belongs to them, how they end, and what they do when a server or a network fails.

local helper = dofile("spec/helper.lua")
local lumo = helper.lumo

local conn = helper.connect("transaction")
-- What is stored is looked at from outside of any transaction of `conn`.
local raw = lumo.connect(helper.uri(), { name = "transaction raw", database = helper.database })
helper.conn = raw

local expect_error, expect_refused = helper.expect_error, helper.expect_refused
local commands = helper.commands
local pluck = helper.pluck

local Account = lumo.model("TrxAccount", {
  collection = "accounts",
  columns = { name = "string", balance = "integer", notes = { "array", of = "string" }, meta = "object" },
  relations = {
    groups = lumo.many_to_many("TrxGroup", {
      pivot_table = "account_groups", pivot_foreign_key = "account_id", pivot_related_foreign_key = "group_id",
    }),
  },
})
local Group = lumo.model("TrxGroup", { collection = "groups", columns = { name = "string" } })

-- What has to be there before a transaction may write to it, whatever the server's version.
helper.create_index("accounts", { { "name", 1 } }, { unique = true })
helper.create_index("groups", { { "name", 1 } })
helper.create_index("account_groups", { { "account_id", 1 }, { "group_id", 1 } }, { unique = true })

local function stored_names()
  return table.concat(pluck(helper.docs("accounts", {}, { name = 1 }), "name"), " ")
end

local function fail(mode, data)
  raw:command(lumo.ordered { { "configureFailPoint", "failCommand" }, { "mode", mode }, { "data", data or {} } },
    { database = "admin" })
end

-- The next `times` of these commands fail.
local function fail_next(command, times, data)
  data.failCommands = lumo.array { command }
  if command ~= "commitTransaction" then data.namespace = helper.database .. ".accounts" end
  fail({ times = times }, data)
end

local TRANSIENT = lumo.array { "TransientTransactionError" }
local UNKNOWN = lumo.array { "UnknownTransactionCommitResult" }

local function open_transactions()
  return tonumber(tostring(raw:command({ serverStatus = 1 }).transactions.currentOpen))
end

-- Runs a transaction to its end and rolls it back; what else it raises goes through.
local function undo(fn, options)
  local _, err = pcall(lumo.transaction, function(trx)
    fn(trx)
    error("undo", 0)
  end, options)
  if err ~= "undo" then error(err, 0) end
end

before_each(function()
  helper.clear("accounts", "groups", "account_groups")
end)

after_each(function()
  fail "off"
end)

teardown(function()
  fail "off"
  helper.drop()
end)

describe("lumo.transaction with a function", function()
  it("commits what the function did, with one commit", function()
    local _, names = commands(function()
      lumo.transaction(function()
        Account:create { name = "a" }
        Account:create { name = "b" }
      end)
    end)
    assert.same({ "insert", "insert", "commitTransaction" }, names)
    assert.equal("a b", stored_names())
  end)

  it("gives what the function returns", function()
    assert.same({ 1, nil, "x", nil, n = 4 }, (function(...)
      return { n = select("#", ...), ... }
    end)(lumo.transaction(function() return 1, nil, "x", nil end)))
    assert.equal(0, select("#", lumo.transaction(function() end)))
  end)

  it("hands the transaction to the function, active until it ends", function()
    local kept
    lumo.transaction(function(trx)
      kept = trx
      assert.is_true(trx.is_active)
      assert.is_true(trx.isActive)
      assert.equal("Transaction(open)", tostring(trx))
    end)
    assert.is_false(kept.is_active)
    assert.equal("Transaction(over)", tostring(kept))
    expect_refused("E_ARGUMENT", function() Account:create({ name = "a" }, { client = kept }) end)
    expect_refused("E_ARGUMENT", function() kept:commit() end)
    expect_refused("E_ARGUMENT", function() kept:rollback() end)
    expect_refused("E_ARGUMENT", function() kept:run(function() end) end)
  end)

  it("sends nothing when the function sends nothing", function()
    helper.expect_commands(0, function() lumo.transaction(function() return 1 end) end)
    helper.expect_commands(0, function()
      pcall(lumo.transaction, function() error("no") end)
    end)
  end)

  it("rolls back and raises what the function raised", function()
    for _, value in ipairs { "text", { code = "mine" }, 5, false } do
      local ok, err = pcall(lumo.transaction, function()
        Account:create { name = "a" }
        error(value, 0)
      end)
      assert.is_false(ok)
      assert.equal(value, err)
      assert.equal("", stored_names())
    end
  end)

  it("takes in every command of the connection in this coroutine", function()
    local account = Account:create { name = "a", balance = 1 }
    local group = Group:create { name = "g" }
    undo(function()
      account.balance = 2
      account:save()
      account:increment("balance", 5)
      Account:query():where("name", "a"):update { notes = { "x" } }
      Account:create_many { { name = "b" }, { name = "c" } }
      account.groups:attach(group)
      Group:query():everything():delete()
      assert.equal(3, Account:count())
      assert.equal(1, account.groups:count())
      assert.equal(7, Account:find(account._id).balance)
      assert.equal(3, #Account:query():pluck("name"))
      assert.equal(7, Account:query():sum("balance"))
    end)
    assert.equal("a", stored_names())
    local document = helper.doc("accounts")
    assert.equal(1, document.balance)
    assert.is_nil(document.notes)
    assert.equal(0, #helper.docs("account_groups"))
    assert.equal(1, #helper.docs("groups"))
  end)

  it("takes client = trx for the same", function()
    undo(function(trx)
      Account:create({ name = "a" }, { client = trx })
      assert.equal(1, Account:query({ client = trx }):count())
    end)
    assert.equal("", stored_names())
  end)

  it("lets client = conn stay outside, on purpose", function()
    undo(function()
      Account:create { name = "inside" }
      assert.equal(0, Account:query({ client = conn }):count())
      local log = Account:create({ name = "outside" }, { client = conn })
      assert.is_nil(log.trx)
      assert.equal("outside", stored_names())
      assert.equal(1, Account:count({ client = conn }))
    end)
    assert.equal("outside", stored_names())
  end)

  it("leaves other connections alone", function()
    local other = lumo.connect(helper.uri(), { name = "trx other", database = helper.database })
    undo(function()
      Account:create({ name = "other" }, { connection = "trx other" })
      Account:create { name = "mine" }
    end)
    assert.equal("other", stored_names())
    undo(function()
      Account:create({ name = "b" }, { connection = "trx other" })
      Account:create { name = "mine" }
    end, { connection = "trx other" })
    assert.equal("mine other", stored_names())
    other:close()
  end)

  it("goes by the model's name too, on the model's connection", function()
    local value = Account:transaction(function(trx)
      Account:create { name = "a" }
      assert.equal(trx, Account:first().trx)
      return "done"
    end)
    assert.equal("done", value)
    undo(function()
      Account:create { name = "b" }
    end)
    assert.equal("a", stored_names())
  end)

  it("may be ended by hand in the function", function()
    local result = lumo.transaction(function(trx)
      Account:create { name = "a" }
      trx:commit()
      return "committed"
    end)
    assert.equal("committed", result)
    lumo.transaction(function(trx)
      Account:create { name = "b" }
      trx:rollback()
    end)
    assert.equal("a", stored_names())
  end)

  it("sends nothing more once it was ended by hand in the function", function()
    local kept = Account:create { name = "kept", balance = 1 }
    local function refused(trx)
      for _, fn in ipairs {
        function() Account:create { name = "no" } end,
        function() Account:create({ name = "no" }, { client = trx }) end,
        function() Account:query():where("name", "kept"):update { balance = 5 } end,
        function() return Account:first() end,
        function()
          kept.balance = kept.balance + 1
          kept:save()
        end,
        function() return kept.groups:exec() end,
        function() conn:ping() end,
        function() lumo.transaction(function() end) end,
        function() trx:run(function() end) end,
        function() trx:after("commit", function() end) end,
      } do
        local err = expect_refused("E_ARGUMENT", fn)
        assert.matches("ended", err.message)
      end
      assert.matches("client = connection", expect_refused("E_ARGUMENT", function() Account:first() end).message)
    end
    for _, how in ipairs { "commit", "rollback" } do
      lumo.transaction(function(trx)
        Account:create { name = how }
        trx[how](trx)
        refused(trx)
        Account:create({ name = how .. " outside" }, { client = conn })
        lumo.transaction(function() Account:create { name = how .. " own" } end, { client = conn })
        refused(trx)
      end)
      Account:create { name = how .. " after" }
    end
    lumo.transaction(function(trx) -- joined, and by trx:run
      lumo.transaction(function(inner) inner:commit() end)
      refused(trx)
    end)
    local trx = lumo.transaction()
    trx:run(function()
      trx:rollback()
      refused(trx)
    end)
    assert.equal("commit commit after commit outside commit own kept rollback after rollback outside rollback own",
      stored_names())
  end)

  it("that failed may not go on after its end was caught", function()
    fail_next("commitTransaction", 1, { errorCode = 20 })
    lumo.transaction(function(trx)
      Account:create { name = "a" }
      expect_error("E_SERVER", function() trx:commit() end)
      expect_refused("E_ARGUMENT", function() Account:create { name = "b" } end)
    end)
    assert.equal("", stored_names())
  end)

  it("refuses what is no function, and unknown options", function()
    for _, bad in ipairs { 5, "x", true } do
      expect_refused("E_ARGUMENT", function() lumo.transaction(bad) end)
    end
    expect_refused("E_ARGUMENT", function() lumo.transaction(function() end, { isolation = "x" }) end)
    expect_refused("E_ARGUMENT", function() lumo.transaction(function() end, 5) end)
  end)

  it("streams a cursor in it", function()
    lumo.transaction(function()
      local rows = {}
      for i = 1, 2500 do rows[i] = { name = ("%05d"):format(i) } end
      Account:create_many(rows)
      local seen = 0
      for one in Account:query():order_by("name"):each() do
        seen = seen + 1
        assert.equal(("%05d"):format(seen), one.name)
      end
      assert.equal(2500, seen)
    end)
    assert.equal(2500, Account:count())
  end)
end)

describe("a nested transaction", function()
  it("joins the outer one: one transaction, one commit", function()
    local _, names = commands(function()
      lumo.transaction(function(outer)
        Account:create { name = "a" }
        local value = lumo.transaction(function(inner)
          assert.equal(outer, inner)
          Account:create { name = "b" }
          return "inner"
        end)
        assert.equal("inner", value)
        Account:transaction(function() Account:create { name = "c" } end)
      end)
    end)
    assert.same({ "insert", "insert", "insert", "commitTransaction" }, names)
    assert.equal("a b c", stored_names())
  end)

  it("rolls all back when its error goes through", function()
    pcall(lumo.transaction, function()
      Account:create { name = "a" }
      lumo.transaction(function()
        Account:create { name = "b" }
        error("undo")
      end)
    end)
    assert.equal("", stored_names())
  end)

  it("goes with the outer one", function()
    undo(function()
      lumo.transaction(function() Account:create { name = "a" } end)
    end)
    assert.equal("", stored_names())
  end)

  it("is one of its own with client = conn", function()
    undo(function(outer)
      Account:create { name = "outer" }
      lumo.transaction(function(inner)
        assert.not_equal(outer, inner)
        Account:create { name = "inner" }
        assert.equal(1, Account:count())
      end, { client = conn })
      assert.equal("outer", Account:first().name)
    end)
    assert.equal("inner", stored_names())
  end)

  it("joins a manual one that it is given", function()
    local trx = lumo.transaction()
    lumo.transaction(function(inner)
      assert.equal(trx, inner)
      Account:create { name = "a" }
    end, { client = trx })
    assert.is_true(trx.is_active)
    assert.equal("", stored_names())
    trx:commit()
    assert.equal("a", stored_names())
  end)
end)

describe("a coroutine", function()
  it("that is started inside is not in the transaction", function()
    undo(function()
      Account:create { name = "inside" }
      coroutine.wrap(function()
        assert.equal(0, Account:count())
        Account:create { name = "beside" }
      end)()
    end)
    assert.equal("beside", stored_names())
  end)

  it("gets in by client = trx and by trx:run", function()
    undo(function(trx)
      Account:create { name = "a" }
      coroutine.wrap(function()
        assert.equal(1, Account:query({ client = trx }):count())
        local x, y, z = trx:run(function(same)
          assert.equal(trx, same)
          Account:create { name = "b" }
          return Account:count(), nil, "z"
        end)
        assert.same({ 2, nil, "z" }, { x, y, z })
        assert.equal(0, Account:count())
        local ok, err = pcall(trx.run, trx, function() error("through", 0) end)
        assert.is_false(ok)
        assert.equal("through", err)
        assert.equal(0, Account:count())
      end)()
    end)
    assert.equal("", stored_names())
    expect_refused("E_ARGUMENT", function() lumo.transaction(function(trx) trx.run(function() end) end) end)
  end)

  it("may yield inside its transaction, which goes on when it is resumed", function()
    local step = coroutine.wrap(function()
      lumo.transaction(function()
        Account:create { name = "a" }
        coroutine.yield("first")
        Account:create { name = "b" }
        assert.equal(2, Account:count())
        local account = Account:find_by("name", "b")
        coroutine.yield("second")
        account.balance = 5
        account:save()
      end)
      return "done"
    end)
    assert.equal("first", step())
    assert.equal(0, Account:count())
    Account:create { name = "main" }
    assert.equal("second", step())
    assert.equal("main", stored_names())
    assert.equal("done", step())
    assert.equal("a b main", stored_names())
    assert.equal(5, Account:find_by("name", "b").balance)
  end)

  it("has a transaction of its own beside another's", function()
    local function worker(name, fails)
      return coroutine.create(function()
        lumo.transaction(function()
          Account:create { name = name .. 1 }
          coroutine.yield()
          Account:create { name = name .. 2 }
          coroutine.yield()
          assert.equal(2, Account:count())
          if fails then error("undo", 0) end
        end)
      end)
    end
    local one, two = worker("x", false), worker("y", true)
    for _ = 1, 2 do
      assert.is_true(coroutine.resume(one))
      assert.is_true(coroutine.resume(two))
    end
    assert.is_true(coroutine.resume(one))
    local ok, err = coroutine.resume(two)
    assert.is_false(ok)
    assert.equal("undo", err)
    assert.equal("x1 x2", stored_names())
  end)

  it("that is never resumed leaves no transaction behind", function()
    local before = open_transactions()
    do
      local step = coroutine.wrap(function()
        lumo.transaction(function()
          Account:create { name = "a" }
          coroutine.yield()
        end)
      end)
      step()
      assert.equal(before + 1, open_transactions())
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, open_transactions())
    assert.equal("", stored_names())
  end)
end)

describe("the manual form", function()
  it("is used where it is passed, and nowhere else", function()
    local trx = lumo.transaction()
    Account:create { name = "out" }
    Account:create({ name = "in" }, { client = trx })
    assert.equal(2, Account:query({ client = trx }):count())
    assert.equal(1, Account:count())
    trx:commit()
    assert.equal("in out", stored_names())
    assert.is_false(trx.is_active)
  end)

  it("rolls back", function()
    local trx = Account:transaction()
    local account = Account:create({ name = "in" }, { client = trx })
    assert.equal(trx, account.trx)
    trx:rollback()
    assert.is_nil(account.trx)
    assert.is_true(account.is_new)
    assert.equal("", stored_names())
  end)

  it("goes on in the records that it made or loaded, until it ends", function()
    local group = Group:create { name = "g" }
    Account:create { name = "a", balance = 1 }
    local trx = lumo.transaction()
    local account = Account:query({ client = trx }):first()
    assert.equal(trx, account.trx)
    account.balance = 2
    account:save()
    account.groups:attach(group)
    assert.equal(0, #helper.docs("account_groups"))
    assert.equal(1, helper.doc("accounts").balance)
    assert.equal(1, #account.groups:exec())
    assert.equal(trx, account.groups:exec()[1].trx)
    trx:commit()
    assert.is_nil(account.trx)
    assert.equal(2, helper.doc("accounts").balance)
    assert.equal(1, #helper.docs("account_groups"))
    account.balance = 3
    account:save()
    assert.equal(3, helper.doc("accounts").balance)
  end)

  it("is taken on by use_transaction", function()
    local account = Account:create { name = "a", balance = 1 }
    local fresh = Account:new { name = "b" }
    local trx = lumo.transaction()
    assert.equal(account, account:use_transaction(trx))
    fresh:useTransaction(trx)
    assert.equal(trx, account.trx)
    account.balance = 2
    account:save()
    fresh:save()
    assert.equal("a", stored_names())
    assert.equal(1, helper.doc("accounts").balance)
    trx:rollback()
    assert.equal(2, account.balance)
    assert.is_true(account.is_dirty)
    assert.is_true(fresh.is_new)
    expect_refused("E_ARGUMENT", function() account:use_transaction(trx) end)
    expect_refused("E_ARGUMENT", function() account:use_transaction(nil) end)
    expect_refused("E_ARGUMENT", function() account:use_transaction(conn) end)
  end)

  it("ends when nobody holds it any more", function()
    local before = open_transactions()
    do
      local trx = lumo.transaction()
      Account:create({ name = "a" }, { client = trx })
      assert.equal(before + 1, open_transactions())
    end
    collectgarbage()
    collectgarbage()
    assert.equal(before, open_transactions())
    assert.equal("", stored_names())
  end)

  it("is over once it ended", function()
    local trx = lumo.transaction()
    local account = Account:create({ name = "a" }, { client = trx })
    trx:commit()
    expect_refused("E_ARGUMENT", function() trx:commit() end)
    expect_refused("E_ARGUMENT", function() trx:rollback() end)
    expect_refused("E_ARGUMENT", function() Account:query({ client = trx }):first() end)
    expect_refused("E_ARGUMENT", function() trx.commit() end)
    expect_refused("E_ARGUMENT", function() trx:after("commit", function() end) end)
    account:delete()
    assert.equal("", stored_names())
  end)
end)

describe("trx:after", function()
  local told

  local function tell(word)
    return function() told[#told + 1] = word end
  end

  before_each(function() told = {} end)

  it("runs after the commit, in order, once", function()
    lumo.transaction(function(trx)
      assert.equal(trx, trx:after("commit", tell "one"))
      trx:after("rollback", tell "no")
      trx:after("commit", function()
        told[#told + 1] = stored_names()
        assert.is_false(trx.is_active)
      end)
      Account:create { name = "a" }
      assert.same({}, told)
    end)
    assert.same({ "one", "a" }, told)
  end)

  it("runs after the rollback, once", function()
    undo(function(trx)
      trx:after("commit", tell "no")
      trx:after("rollback", tell "one")
      trx:after("rollback", tell "two")
      Account:create { name = "a" }
    end)
    assert.same({ "one", "two" }, told)
  end)

  it("is for the manual form too", function()
    local trx = lumo.transaction()
    trx:after("commit", tell "commit"):after("rollback", tell "rollback")
    trx:commit()
    assert.same({ "commit" }, told)
    trx = lumo.transaction()
    trx:after("commit", tell "commit"):after("rollback", tell "rollback")
    trx:rollback()
    assert.same({ "commit", "rollback" }, told)
  end)

  it("sends what it likes, outside of what has ended", function()
    for _, how in ipairs { "commit", "rollback" } do
      lumo.transaction(function(trx)
        trx:after(how, function()
          Account:create { name = how .. " after" }
          local own = Account:new { name = how }
          own.balance = 1
          lumo.transaction(function()
            own.name = how .. " own"
            own:save()
          end)
          assert.is_true(Account:count() > 1)
        end)
        local off = lumo.on("command", function() Account:first() end)
        Account:create { name = how }
        trx[how](trx)
        off()
        expect_refused("E_ARGUMENT", function() Account:create { name = "no" } end)
      end)
    end
    assert.equal("commit commit after commit own rollback after rollback own", stored_names())
  end)

  it("of a joined transaction waits for the outer one", function()
    lumo.transaction(function()
      lumo.transaction(function(inner) inner:after("commit", tell "inner") end)
      assert.same({}, told)
    end)
    assert.same({ "inner" }, told)
  end)

  it("runs for the last try only", function()
    fail_next("insert", 2, { errorCode = 112, errorLabels = TRANSIENT })
    local tries = 0
    lumo.transaction(function(trx)
      tries = tries + 1
      trx:after("commit", tell "commit"):after("rollback", tell "rollback")
      Account:create { name = "a" }
    end)
    assert.equal(3, tries)
    assert.same({ "commit" }, told)
  end)

  it("runs for the last try only when it is the commit that fails", function()
    fail_next("commitTransaction", 1, { errorCode = 251, errorLabels = TRANSIENT })
    local tries = 0
    lumo.transaction(function(trx)
      tries = tries + 1
      trx:after("commit", tell "commit"):after("rollback", tell "rollback")
      Account:create { name = "a" }
    end)
    assert.equal(2, tries)
    assert.same({ "commit" }, told)
  end)

  it("runs once when the commit is refused", function()
    fail_next("commitTransaction", 1, { errorCode = 20 })
    expect_error("E_SERVER", function()
      lumo.transaction(function(trx)
        trx:after("commit", tell "commit"):after("rollback", tell "rollback")
        Account:create { name = "a" }
      end)
    end)
    assert.same({ "rollback" }, told)
  end)

  it("that raises after the commit is heard, and undoes nothing", function()
    local tries = 0
    local ok, err = pcall(lumo.transaction, function(trx)
      tries = tries + 1
      trx:after("commit", function()
        fail_next("find", 1, { errorCode = 112, errorLabels = TRANSIENT })
        Account:first()
      end)
      trx:after("commit", tell "commit")
      trx:after("rollback", tell "rollback")
      Account:create { name = "a" }
    end)
    assert.is_false(ok)
    assert.equal(112, err.server_code)
    assert.equal(1, tries)
    assert.same({ "commit" }, told)
    assert.equal("a", stored_names())
  end)

  it("refuses other events and what is no function", function()
    lumo.transaction(function(trx)
      expect_refused("E_ARGUMENT", function() trx:after("abort", print) end)
      expect_refused("E_ARGUMENT", function() trx:after("commit") end)
      expect_refused("E_ARGUMENT", function() trx.after("commit", print) end)
    end)
  end)
end)

describe("a transaction that fails gives back the state of", function()
  it("a new record", function()
    local account = Account:new { name = "a", balance = 1 }
    undo(function(trx)
      account:save()
      assert.is_true(account.is_persisted)
      assert.equal(trx, account.trx)
    end)
    assert.is_true(account.is_new)
    assert.is_false(account.is_persisted)
    assert.is_nil(account.trx)
    assert.equal("a", account.name)
    account:save()
    assert.equal("a", stored_names())
  end)

  it("a record that was changed", function()
    local account = Account:create { name = "a", balance = 1, notes = { "x" } }
    account.balance = 2
    undo(function()
      account.name = "b"
      account:save()
      account.balance = 3
      account:save()
      assert.is_false(account.is_dirty)
    end)
    assert.equal("b", account.name)
    assert.equal(2, account.balance)
    assert.same({ name = "b", balance = 2 }, account.dirty)
    assert.equal(1, account.original.balance)
    account:save()
    assert.equal("b", stored_names())
    assert.equal(2, helper.doc("accounts").balance)
  end)

  it("a record that was deleted", function()
    local account = Account:create { name = "a" }
    undo(function()
      account:delete()
      assert.is_true(account.is_deleted)
    end)
    assert.is_false(account.is_deleted)
    assert.is_true(account.is_persisted)
    account.name = "b"
    account:save()
    assert.equal("b", stored_names())
  end)

  it("a record that was incremented", function()
    local account = Account:create { name = "a", balance = 1 }
    undo(function()
      account:increment("balance", 5)
      assert.equal(6, account.balance)
    end)
    assert.equal(1, account.balance)
    assert.is_false(account.is_dirty)
    account:increment("balance")
    assert.equal(2, account.balance)
  end)

  it("a record that was refreshed", function()
    local account = Account:create { name = "a", balance = 1 }
    undo(function()
      Account:query():where("name", "a"):update { balance = 9 }
      account:refresh()
      assert.equal(9, account.balance)
    end)
    assert.equal(1, account.balance)
  end)

  it("a record that was found and deleted in one", function()
    Account:create { name = "a" }
    local account
    undo(function()
      account = Account:query():find_one_and_delete()
      assert.is_true(account.is_deleted)
    end)
    assert.is_false(account.is_deleted)
    account.balance = 7
    account:save()
    assert.equal(7, helper.doc("accounts").balance)
  end)

  it("records created, changed and deleted in turn", function()
    local account = Account:new { name = "a", balance = 1 }
    undo(function()
      account:save()
      account.balance = 2
      account:save()
      account:increment("balance", 3)
      account:delete()
    end)
    assert.is_true(account.is_new)
    assert.is_false(account.is_deleted)
    assert.equal(1, account.balance)
    account:save()
    assert.equal(1, helper.doc("accounts").balance)
  end)

  it("records saved in a joined transaction", function()
    local account = Account:new { name = "a" }
    undo(function()
      lumo.transaction(function() account:save() end)
    end)
    assert.is_true(account.is_new)
  end)

  it("every record of create_many", function()
    local made
    undo(function() made = Account:create_many { { name = "a" }, { name = "b" } } end)
    assert.is_true(made[1].is_new)
    assert.is_true(made[2].is_new)
    made[2]:save()
    assert.equal("b", stored_names())
  end)

  it("a record whose tables were changed in place", function()
    local account = Account:create { name = "a", notes = { "x" }, meta = { deep = { n = 1 } } }
    local notes = account.notes
    table.insert(notes, "y")
    account.meta.deep.n = 2
    undo(function()
      account:save()
      table.insert(account.notes, "z")
      table.remove(notes, 1)
      account.meta.deep.n = 3
      account.meta.deep.more = {}
      account:save()
    end)
    assert.same({ "x", "y" }, account.notes)
    assert.equal(notes, account.notes)
    assert.same({ deep = { n = 2 } }, account.meta)
    assert.same({ notes = { "x", "y" }, meta = { deep = { n = 2 } } }, account.dirty)
    account:save()
    assert.same({ "x", "y" }, account:fresh().notes)
  end)

  it("a record's attributes that no column declares", function()
    local Loose = lumo.model("TrxLoose", { collection = "accounts", strict = false, columns = { name = "string" } })
    local account = Loose:create { name = "a", word = "old" }
    account.word, account.bag, account.gone = "new", { list = { 1 } }, nil
    undo(function()
      account:save()
      account.word, account.added = "other", 1
      table.insert(account.bag.list, 2)
      account:save()
    end)
    assert.equal("new", account.word)
    assert.is_nil(account.added)
    assert.same({ list = { 1 } }, account.bag)
    account:save()
    assert.same({ list = { 1 } }, account:fresh().bag)
  end)

  it("records before each new try", function()
    local account = Account:create { name = "a", balance = 1, notes = { "x" } }
    local other = Account:create { name = "b", balance = 1 }
    fail_next("delete", 2, { errorCode = 112, errorLabels = TRANSIENT })
    local seen = {}
    lumo.transaction(function(trx)
      seen[#seen + 1] = account.balance
      account.balance = account.balance + 10
      table.insert(account.notes, "y")
      account:save()
      other:use_transaction(trx):merge { balance = other.balance + 1 }
      Account:query():where("name", "nobody"):delete()
      other:save()
    end)
    assert.same({ 1, 1, 1 }, seen)
    assert.same({ 11, 2 }, { account.balance, other.balance })
    assert.same({ "x", "y" }, account.notes)
    assert.same({ "x", "y" }, account:fresh().notes)
    assert.same({ 11, 2 }, { account:fresh().balance, other:fresh().balance })
    assert.is_false(account.is_dirty)
  end)

  it("no record that was saved in the transaction of another connection", function()
    local elsewhere = lumo.connect(helper.uri(), { name = "trx_else", database = helper.database })
    local account = Account:create { name = "a", balance = 1 }
    fail_next("delete", 1, { errorCode = 112, errorLabels = TRANSIENT })
    lumo.transaction(function()
      lumo.transaction(function()
        account.balance = account.balance + 1
        account:save()
        Account:query { client = elsewhere }:where("name", "nobody"):delete()
      end, { client = elsewhere })
    end)
    assert.equal(3, account.balance)
    assert.equal(3, account:fresh().balance)
  end)

  it("records when the commit is refused", function()
    local account = Account:new { name = "a" }
    fail_next("commitTransaction", 1, { errorCode = 20 })
    expect_error("E_SERVER", function()
      lumo.transaction(function() account:save() end)
    end)
    assert.is_true(account.is_new)
    assert.equal("", stored_names())
  end)

  it("keeps it when it commits", function()
    local account = Account:new { name = "a" }
    local gone = Account:create { name = "gone" }
    lumo.transaction(function()
      account:save()
      gone:delete()
    end)
    assert.is_true(account.is_persisted)
    assert.is_true(gone.is_deleted)
    assert.is_nil(account.trx)
  end)
end)

describe("failures", function()
  it("a transient error of a statement runs the function again", function()
    fail_next("update", 2, { errorCode = 112, errorLabels = TRANSIENT })
    local account, tries = Account:create { name = "a", balance = 1 }, 0
    local value = lumo.transaction(function()
      tries = tries + 1
      Account:create { name = "try " .. tries }
      Account:query():where("name", "a"):increment("balance", 1)
      return tries
    end)
    assert.equal(3, value)
    assert.equal("a try 3", stored_names())
    assert.equal(2, account:refresh().balance)
  end)

  it("a transient error of the commit runs the function again", function()
    fail_next("commitTransaction", 1, { errorCode = 251, errorLabels = TRANSIENT })
    local tries = 0
    lumo.transaction(function()
      tries = tries + 1
      Account:create { name = "a" }
    end)
    assert.equal(2, tries)
    assert.equal("a", stored_names())
  end)

  it("a transient error that the function swallows runs it again at the commit", function()
    fail_next("update", 1, { errorCode = 112, errorLabels = TRANSIENT })
    Account:create { name = "a", balance = 1 }
    local tries = 0
    lumo.transaction(function()
      tries = tries + 1
      pcall(function() Account:query():everything():increment("balance") end)
    end)
    assert.equal(2, tries)
    assert.equal(2, helper.doc("accounts").balance)
  end)

  it("an unknown result of the commit is asked for again, without the function", function()
    for _, times in ipairs { 1, 2, 3 } do
      helper.clear("accounts")
      fail_next("commitTransaction", times, { errorCode = 6, errorLabels = UNKNOWN })
      local tries = 0
      lumo.transaction(function()
        tries = tries + 1
        Account:create { name = "a" }
      end)
      assert.equal(1, tries)
      assert.equal("a", stored_names())
    end
  end)

  it("a commit that waited in vain for its write concern is asked for again", function()
    fail_next("commitTransaction", 1, {
      writeConcernError = { code = 64, errmsg = "waiting for replication timed out" }, errorLabels = UNKNOWN,
    })
    local tries = 0
    lumo.transaction(function()
      tries = tries + 1
      Account:create { name = "a" }
    end)
    assert.equal(1, tries)
    assert.equal("a", stored_names())
  end)

  it("a commit that stays unknown says so, within its time", function()
    local short = lumo.connect(helper.uri(), {
      name = "trx short", database = helper.database, timeout_ms = 1000, app_name = "trx_short",
    })
    fail("alwaysOn", {
      failCommands = lumo.array { "commitTransaction" }, errorLabels = UNKNOWN, appName = "trx_short",
      writeConcernError = { code = 64, errmsg = "waiting for replication timed out" },
    })
    local started, account, tries, told = helper.now_ms(), nil, 0, {}
    local err = expect_error("E_WRITE", function()
      lumo.transaction(function(trx)
        tries = tries + 1
        trx:after("rollback", function() told[#told + 1] = "rollback" end)
        trx:after("commit", function() told[#told + 1] = "commit" end)
        account = Account:create({ name = "a" }, { client = trx })
      end, { connection = short })
    end)
    assert.equal("unknown", err.outcome)
    assert.equal(1, tries)
    assert.same({}, told)
    assert.is_true(helper.now_ms() - started < 10000)
    assert.is_true(account.is_persisted)
    assert.is_nil(account.trx)
    assert.equal("a", stored_names())
    fail "off"
    short:close()
  end)

  it("a cut network in a statement runs the function again", function()
    for _, command in ipairs { "insert", "find" } do
      helper.clear("accounts")
      local tries = 0
      fail_next(command, 1, { closeConnection = true })
      lumo.transaction(function()
        tries = tries + 1
        Account:query():where("name", "zero"):update { balance = 1 }
        Account:create { name = "a" }
        Account:first()
      end)
      assert.equal(2, tries)
      assert.equal("a", stored_names())
    end
  end)

  it("a cut network in a later statement leaves no locks that stop the next try", function()
    Account:create { name = "a", balance = 1 }
    fail_next("insert", 1, { closeConnection = true })
    local started, tries = helper.now_ms(), 0
    lumo.transaction(function()
      tries = tries + 1
      Account:query():where("name", "a"):increment("balance")
      Account:create { name = "b" }
    end)
    assert.equal(2, tries)
    assert.equal(2, helper.doc("accounts", { name = "a" }).balance)
    assert.is_true(helper.now_ms() - started < 10000)
  end)

  it("a cut network in the commit is asked for again, without the function", function()
    for _, times in ipairs { 1, 2 } do
      helper.clear("accounts")
      fail_next("commitTransaction", times, { closeConnection = true })
      local tries = 0
      lumo.transaction(function()
        tries = tries + 1
        Account:create { name = "a" }
      end)
      assert.equal(1, tries)
      assert.equal("a", stored_names())
    end
  end)

  it("other errors are raised at once", function()
    fail_next("insert", 1, { errorCode = 20 })
    local tries = 0
    local err = expect_error("E_SERVER", function()
      lumo.transaction(function()
        tries = tries + 1
        Account:create { name = "a" }
      end)
    end)
    assert.equal(20, err.server_code)
    assert.equal("not_applied", err.outcome)
    assert.equal(1, tries)
  end)

  it("an error that the server ended the transaction with cannot be swallowed", function()
    Account:create { name = "taken" }
    local tries, after = 0, nil
    local started = helper.now_ms()
    local err = expect_error("E_DUPLICATE_KEY", function()
      lumo.transaction(function()
        tries = tries + 1
        Account:create { name = "a" }
        pcall(Account.create, Account, { name = "taken" })
        after = expect_error("E_DUPLICATE_KEY", function() Account:create { name = "b" } end)
      end)
    end)
    assert.equal(1, tries)
    assert.equal("name", err.key)
    assert.equal("name", after.key)
    assert.equal("taken", stored_names())
    assert.is_true(helper.now_ms() - started < 10000)

    local trx = lumo.transaction()
    Account:create({ name = "a" }, { client = trx })
    pcall(Account.create, Account, { name = "taken" }, { client = trx })
    expect_error("E_DUPLICATE_KEY", function() trx:commit() end)
    assert.is_false(trx.is_active)
    assert.equal("taken", stored_names())
  end)

  it("errors of Lua, and refusals before anything was sent, may be swallowed", function()
    lumo.transaction(function()
      Account:create { name = "a" }
      expect_error("E_CAST", function() Account:create { name = "b", balance = "x" } end)
      expect_error("E_ROW_NOT_FOUND", function() Account:query():where("name", "zero"):first_or_fail() end)
      pcall(error, "mine")
    end)
    assert.equal("a", stored_names())
  end)

  it("a standalone server has no transactions", function()
    local server = helper.start_mongod()
    finally(function() server:remove() end)
    local alone = lumo.connect(server.address, { name = "trx alone", database = "alone" })
    local called = false
    expect_error("E_UNSUPPORTED", function()
      lumo.transaction(function() called = true end, { connection = "trx alone" })
    end)
    expect_error("E_UNSUPPORTED", function() lumo.transaction(nil, { connection = alone }) end)
    expect_error("E_UNSUPPORTED", function() lumo.transaction { connection = alone } end)
    assert.is_false(called)
    Account:create({ name = "a" }, { connection = "trx alone" })
    assert.equal(1, Account:query({ connection = "trx alone" }):count())
    alone:close()
  end)
end)

describe("sessions", function()
  it("go back to the pool, however a transaction ended", function()
    local before = open_transactions()
    local single = lumo.connect(helper.uri(), { name = "trx single", database = helper.database, pool_size = 1 })
    local options = { connection = "trx single" }
    for i = 1, 20 do
      lumo.transaction(function() Account:create({ name = "a" .. i }, options) end, options)
      undo(function(trx)
        Account:create({ name = "b" .. i }, { client = trx })
      end, options)
      local trx = lumo.transaction(nil, options)
      Account:create({ name = "c" .. i }, { client = trx })
      trx:rollback()
      Account:count(options)
    end
    assert.equal(before, open_transactions())
    single:close()
  end)

  it("are not gathered on the server", function()
    local function active()
      raw:command({ refreshLogicalSessionCacheNow = 1 }, { database = "admin" })
      local status = raw:command({ serverStatus = 1 })
      return status.logicalSessionRecordCache.activeSessionsCount
    end
    active()
    local before = active()
    for i = 1, 50 do
      pcall(lumo.transaction, function()
        Account:create { name = "a" .. i }
        if i % 2 == 0 then error("undo") end
      end)
    end
    local gathered = raw:command({ serverStatus = 1 }).logicalSessionRecordCache.activeSessionsCount
    assert.is_true(gathered <= before + 10, ("%s sessions"):format(tostring(gathered)))
  end)
end)

describe("eight processes", function()
  it("moving money between accounts never change the sum", function()
    local accounts = {}
    for i = 1, 8 do
      accounts[i] = { name = "account " .. i, balance = 100 }
    end
    Account:create_many(accounts)
    local script = [[
      local lumo = require "lumo"
      local uri, database, number = arg[1], arg[2], tonumber(arg[3])
      lumo.connect(uri, { database = database, timeout_ms = 60000 })
      local Account = lumo.model("Account", {
        collection = "accounts", columns = { name = "string", balance = "integer" },
      })
      math.randomseed(number * 7919)
      local moved, refused = 0, 0
      for round = 1, 25 do
        local from, to = math.random(8), math.random(7)
        if to >= from then to = to + 1 end
        local amount = math.random(50)
        local ok, err = pcall(lumo.transaction, function()
          local a = Account:find_by_or_fail("name", "account " .. from)
          local b = Account:find_by_or_fail("name", "account " .. to)
          a.balance = a.balance - amount
          a:save()
          if a.balance < 0 then error("too little", 0) end
          b.balance = b.balance + amount
          b:save()
        end)
        if ok then
          moved = moved + 1
        elseif err == "too little" then
          refused = refused + 1
        else
          error(tostring(err), 0)
        end
        local sum = 0
        if round % 5 == 0 then
          lumo.transaction(function() sum = Account:query():sum("balance") end)
          assert(sum == 800, sum)
        end
      end
      print(moved, refused)
    ]]
    local processes = {}
    for i = 1, 8 do
      processes[i] = helper.spawn(script, nil, helper.uri(), helper.database, i)
    end
    local total = 0
    for _, process in ipairs(processes) do
      local output, status = process:wait()
      assert.equal(0, status, output)
      local moved, refused = output:match("(%d+)\t(%d+)")
      total = total + moved + refused
      assert.is_true(tonumber(moved) > 0)
    end
    assert.equal(200, total)
    assert.equal(800, Account:query():sum("balance"))
    assert.is_true(Account:query():min("balance") >= 0)
  end)
end)

describe("afterwards", function()
  it("no transaction is open", function()
    assert.equal(0, open_transactions())
  end)
end)
