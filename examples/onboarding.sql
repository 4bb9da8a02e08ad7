-- Who is to be welcomed, helped or asked why: what happened to subscriptions in the last 30 days.
-- An event holds the subscription as it was then, and in previous_attributes what it was before; the
-- table `subscriptions` only has what it is now. Stripe keeps events for 30 days, the table for ever.
-- `set variable today = now()` asks for today; else it is the time of the newest event.
with clock as (
    select coalesce(getvariable('today')::timestamptz at time zone 'UTC', max(created)) as today
    from stripe.events
),
happened as (
    select
        created as moment,
        type,
        data->'object' as subscription,
        data->'object'->>'status' as status,
        data->'previous_attributes'->>'status' as was,
        data->'previous_attributes' as before
    from stripe.events
    cross join clock
    where type in (
        'customer.subscription.created',
        'customer.subscription.updated',
        'customer.subscription.deleted'
    ) and created > today - interval 30 day and created <= today
),
named as (
    select
        moment,
        case
            when type = 'customer.subscription.created' and status = 'trialing' then 'trial begun'
            when type = 'customer.subscription.created' and status = 'active' then 'subscribed'
            when type = 'customer.subscription.deleted' then 'left'
            when was = 'trialing' and status = 'active' then 'trial converted'
            when was = 'incomplete' and status = 'active' then 'subscribed'
            when was in ('past_due', 'unpaid') and status = 'active' then 'recovered'
            when was in ('trialing', 'active') and status in ('incomplete', 'past_due', 'unpaid')
                then 'payment failed'
            -- A day is in `cancel_at`, the end of the period in both. A key with null is there.
            when (before->'cancel_at') is not null or (before->'cancel_at_period_end') is not null
                then case
                    when (subscription->>'cancel_at') is not null
                        or (subscription->>'cancel_at_period_end') = 'true'
                    then 'going to leave'
                    else 'stays after all'
                end
        end as what,
        subscription->>'id' as subscription,
        subscription->>'customer' as customer
    from happened
)
select named.moment, named.what, named.subscription, customers.name, customers.email
from named
left join stripe.customers on customers.id = named.customer and not customers.deleted
where named.what is not null  -- a renewal moves the period, which is no news to anybody
order by named.moment, named.subscription, named.what;
