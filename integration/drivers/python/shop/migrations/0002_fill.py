from django.db import migrations


def fill(apps, _):
    country, customer, order = (apps.get_model("shop", name) for name in ("Country", "Customer", "Order"))
    country.objects.bulk_create([country(code="NO", name="Norway"), country(code="SE", name="Sweden")])
    for n in range(6):
        order.objects.create(customer=customer.objects.create(name=f"name {n}", country_id="NO"), amount=n)
    assert order.objects.filter(customer__country__name="Norway").count() == 6


def clear(apps, _):
    for name in ("Order", "Customer", "Country"):
        apps.get_model("shop", name).objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(fill, clear)]
