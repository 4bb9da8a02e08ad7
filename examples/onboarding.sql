-- Who is to be welcomed, helped or asked why: what happened to subscriptions in the last 30 days.
-- An event holds the subscription as it was then, and in previous_attributes what it was before; the
-- table `subscriptions` only has what it is now. Stripe keeps events for 30 days, the table for ever.
with happened as (
    select
        created as moment,
        type,
        data->'object' as subscription,
        data->'object'->>'status' as status,
        data->'previous_attributes' as before
    from stripe.events
    where type in (
        'customer.subscription.created',
        'customer.subscription.updated',
        'customer.subscription.deleted'
    )
),
named as (
    select
        moment,
        case
            when type = 'customer.subscription.created' and status = 'trialing' then 'trial begun'
            when type = 'customer.subscription.created' and status = 'active' then 'subscribed'
            when type = 'customer.subscription.deleted' then 'left'
            when (before->>'status') = 'trialing' and status = 'active' then 'trial converted'
            when (before->>'status') = 'incomplete' and status = 'active' then 'subscribed'
            when (before->>'status') = 'past_due' and status = 'active' then 'recovered'
            when (before->>'status') = 'active' and status = 'past_due' then 'payment failed'
            when (before->>'cancel_at_period_end') = 'false' then 'going to leave'
            when (before->>'cancel_at_period_end') = 'true' then 'stays after all'
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
