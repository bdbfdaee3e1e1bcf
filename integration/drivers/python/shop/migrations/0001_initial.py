from django.db import migrations, models

ID = ("id", models.BigAutoField(primary_key=True))


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Country",
            [("code", models.CharField(max_length=2, primary_key=True)), ("name", models.TextField())],
            {"db_table_comment": "ringway: reference"},
        ),
        migrations.CreateModel(
            "Customer",
            [ID, ("name", models.CharField(max_length=50)), ("country", models.ForeignKey("shop.Country", models.PROTECT))],
        ),
        migrations.CreateModel(
            "Order",
            [ID, ("customer", models.ForeignKey("shop.Customer", models.CASCADE)), ("amount", models.DecimalField(max_digits=8, decimal_places=2))],
        ),
    ]
